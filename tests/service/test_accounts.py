"""Accounts over REST and through the client: what a run may spend, has spent, and on what."""

import uuid
from decimal import Decimal

import pytest

from app.client import Seedbed
from tests.rest import post
from tests.waiting import until_ended


@pytest.fixture(scope="module")
def run(api) -> dict:
    dataset, _ = post(api, "/v1/datasets", 201, name=f"paid {uuid.uuid4()}", seeds={"bundled": "english"})
    _, location = post(api, "/v1/runs", 202, dataset_id=dataset["id"], teacher="simulated", target=6, max_usd=2.5)
    return until_ended(api, location)


def test_a_run_has_an_account_with_its_ceilings_and_what_was_spent(api, run):
    account = api.get(f"/v1/accounts/{run['account_id']}").json()
    assert (account["owner_type"], account["owner_id"], account["dataset_id"]) == ("run", run["id"], run["dataset_id"])
    assert (account["state"], account["max_usd"], account["max_requests"]) == ("stopped", "2.5", None)
    assert run["max_usd"] == "2.5" and account["simulated"] and account["note"]
    assert account["usage"] == {name: run["usage"][name] for name in account["usage"]}
    usage = account["usage"]
    assert Decimal(usage["certain_usd"]) > 0 and usage["cost_usd"] == usage["certain_usd"]
    assert (usage["possible_usd"], usage["held_usd"], usage["in_flight"]) == ("0", "0", 0)


def test_accounts_are_listed_by_owner_and_dataset(api, run):
    for name, value in (("owner_id", run["id"]), ("dataset_id", run["dataset_id"])):
        accounts = api.get("/v1/accounts", params={name: value}).json()["data"]
        assert [account["id"] for account in accounts] == [run["account_id"]]
    assert api.get("/v1/accounts", params={"owner_type": "judgement", "owner_id": run["id"]}).json()["data"] == []
    assert api.get("/v1/accounts/acc_nope").status_code == 404


def test_the_report_of_an_account_is_the_economy_of_its_run(service, run):
    with Seedbed(service.url, service.api_key) as client:
        report = client.account_report(run["account_id"])
        economy = client.report(run["id"])["economy"]
    assert [step["name"] for step in report["steps"]] == ["instances", "instructions"]
    assert sum(Decimal(step["cost_usd"]) for step in report["steps"]) == Decimal(report["usage"]["cost_usd"])
    assert [(group["name"], group["calls"]) for group in report["teachers"]] == [
        ("simulated", sum(step["calls"] for step in report["steps"]))
    ]
    shared = report["steps"][0].keys()
    assert [{name: step[name] for name in shared} for step in economy["steps"]] == report["steps"]
    assert report["lost_calls"] == []


def test_releasing_an_account_that_has_lost_nothing_changes_nothing(service, api, run):
    before = api.get(f"/v1/accounts/{run['account_id']}").json()
    with Seedbed(service.url, service.api_key) as client:
        assert client.release(run["account_id"]) == before == client.get(run["account_id"])
