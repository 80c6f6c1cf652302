"""Cancel, and what a waiting job says, through REST and real workers."""

import json
import uuid

import httpx
import pytest

from tests.service.test_main_job import post
from tests.waiting import until, until_ended

JSONL = {"content-type": "application/jsonl"}


@pytest.fixture(scope="module")
def dataset(api) -> dict:
    created_dataset, _ = post(api, "/v1/datasets", 201, name=f"cancel {uuid.uuid4()}", seeds={"bundled": "english"})
    return created_dataset


@pytest.fixture
def small_dataset(api) -> dict:
    """A few seeds: they are scored in a moment, also beside a training that takes a core."""
    tasks = [{"instruction": f"Name a river near town {n}.", "instances": [{"output": f"River {n}"}]} for n in range(8)]
    created_dataset, _ = post(api, "/v1/datasets", 201, name=f"small {uuid.uuid4()}", seeds={"tasks": tasks})
    return created_dataset


@pytest.fixture
def snapshot(api, small_dataset) -> dict:
    _, location = post(api, "/v1/snapshots", 202, dataset_id=small_dataset["id"], include_seeds=True)
    return until_ended(api, location)


def cancelled(api: httpx.Client, place: str) -> dict:
    answer = api.post(f"{place}/cancel")
    assert answer.status_code == 200 and answer.json()["status"] in ("cancelling", "cancelled"), answer.text
    ended = until_ended(api, place)
    assert (ended["status"], ended["stop_reason"]) == ("cancelled", "cancelled")
    assert api.post(f"{place}/cancel").json() == ended
    told = [event["data"].get("status") for event in api.get(f"{place}/events").json()["data"]]
    assert told[-1] == "cancelled"
    return ended


def test_an_import_is_cancelled_and_its_counts_are_its_rows(api, dataset):
    lines = (json.dumps({"instruction": f"Say {uuid.uuid4()} {uuid.uuid4()}", "output": "x"}) for _ in range(3000))
    answer = api.post(f"/v1/datasets/{dataset['id']}/imports", content="\n".join(lines), headers=JSONL)
    location = answer.headers["location"]
    until(lambda: api.get(location).json()["done_rows"])
    ended = cancelled(api, location)
    assert 0 < ended["done_rows"] < 3000 and ended["accepted"] + ended["rejected"] == ended["done_rows"]


@pytest.mark.parametrize("path", ["snapshots", "maintenance-jobs"])
def test_others_are_cancelled_wherever_they_are(api, dataset, path):
    if path == "snapshots":
        _, location = post(api, "/v1/snapshots", 202, dataset_id=dataset["id"], include_seeds=True)
    else:
        _, location = post(api, f"/v1/datasets/{dataset['id']}/reencode", 202)
    answer = api.post(f"{location}/cancel")
    # A small one may have been done already.
    assert answer.status_code == 200 and answer.json()["status"] in ("cancelling", "cancelled", "succeeded")
    assert until_ended(api, location)["status"] in ("cancelled", "succeeded")


@pytest.mark.parametrize(
    "path",
    [
        "snapshots/snap_x",
        "maintenance-jobs/rev_x",
        "datasets/{dataset}/imports/imp_x",
        "likelihood-scores/sco_x",
        "fine-tunes/f",
    ],
)
def test_what_is_not_there_cannot_be_cancelled(api, dataset, path):
    assert api.post(f"/v1/{path.format(dataset=dataset['id'])}/cancel").status_code == 404


def test_a_short_scoring_does_not_wait_behind_a_long_training(api, small_dataset, snapshot):
    long = {"snapshot_id": snapshot["id"], "hyperparameters": {"max_steps": 100_000}}
    _, training = post(api, "/v1/fine-tunes", 202, **long)
    until(lambda: api.get(training).json()["status"] == "running")
    _, second = post(api, "/v1/fine-tunes", 202, **long)
    waiting = api.get(second).json()["queue"]
    assert (waiting["name"], waiting["position"], waiting["reason"]) == ("finetuning", 1, "others_first")
    assert waiting["running"] == 1 and waiting["workers"] == 1
    _, scoring = post(api, "/v1/likelihood-scores", 202, dataset_id=small_dataset["id"], max_length=64)
    assert until_ended(api, scoring, 300)["status"] == "succeeded"
    assert api.get(training).json()["status"] == "running"
    cancelled(api, second)
    cancelled(api, training)
