"""Judgements through REST and real workers: imported rows get their scores, and a snapshot can choose by them."""

import json
import os
import signal
import uuid
from decimal import Decimal
from pathlib import Path

import pytest

from app.client import Seedbed
from tests.rest import post, rows_of, teacher_stats
from tests.waiting import until, until_ended

ROWS = 120
# The teacher takes seconds for so many, so that a cancel on a loaded machine comes before the last of them.
MANY_ROWS = 600


@pytest.fixture(scope="module")
def dataset(faulty) -> dict:
    with Seedbed(faulty.url, faulty.api_key) as seedbed:
        return seedbed.create_dataset(f"judged {uuid.uuid4()}", lexical_threshold=1.0, semantic_threshold=1.0)


@pytest.fixture(scope="module")
def imported(faulty, dataset, tmp_path_factory) -> dict:
    return import_rows(faulty, dataset, tmp_path_factory.mktemp("judged") / "rows.jsonl", ROWS)


def import_rows(stack, dataset: dict, path: Path, count: int) -> dict:
    names = [uuid.uuid4().hex for _ in range(count)]
    rows = [{"instruction": f"Say what {name} is, and who needs it.", "output": f"{name} is a name."} for name in names]
    path.write_text("\n".join(map(json.dumps, rows)))
    with Seedbed(stack.url, stack.api_key) as seedbed:
        return seedbed.wait(seedbed.import_file(dataset["id"], path))


def twice(stats: dict) -> int:
    return stats["request_hashes"]["billed_more_than_once"]


def snapshot_by_judge(dataset: dict) -> dict:
    selection = {"method": "top_k", "k": 5, "quality": "judge.overall"}
    return {"dataset_id": dataset["id"], "forms": ["alpaca"], "splits": {"train": 1.0}, "selection": selection}


def test_imported_rows_are_judged_though_the_worker_is_killed_and_a_snapshot_chooses_by_it(
    client, faulty, dataset, imported
):
    refusal = client.post("/v1/snapshots", json=snapshot_by_judge(dataset))
    assert refusal.status_code == 422
    assert f"seedbed judgements start {dataset['id']}" in refusal.json()["errors"][0]["detail"]
    before = teacher_stats(faulty)
    order = {"dataset_id": dataset["id"], "teacher": "simulated", "filter": {"import_id": imported["id"]}, "max_usd": 1}
    _, location = post(client, "/v1/judgements", 202, **order)
    until(lambda: client.get(location).json()["usage"]["requests"] > 10)
    os.kill(faulty.processes["generation"].pid, signal.SIGKILL)
    ended = until_ended(client, location, 240)
    assert (ended["status"], ended["stop_reason"]) == ("succeeded", "completed"), ended
    assert ended["rows"] == ended["done_rows"] == sum(ended["outcomes"].values()) == imported["accepted"]
    after, usage = teacher_stats(faulty), ended["usage"]
    # Only calls in flight at the kill were made again, and each is counted.
    assert 0 <= twice(after) - twice(before) <= usage["unknown_requests"]
    assert usage["in_flight"] == 0 and Decimal(usage["certain_usd"]) > 0
    rows = rows_of(client, dataset, import_id=imported["id"], status="accepted")
    judged = [row for row in rows if "judge.overall" in row["scores"]]
    assert len(judged) == ROWS - ended["outcomes"].get("unjudged", 0) > ROWS / 2
    assert all(row["tags"]["rationale"] for row in judged)
    _, snapshot = post(client, "/v1/snapshots", 202, **snapshot_by_judge(dataset))
    assert until_ended(client, snapshot)["rows"] == 5


def test_a_judgement_is_paused_resumed_and_reported(client, faulty, dataset, imported):
    options = {"question": True, "aspects": ["clarity", "harmlessness"]}
    order = {"dataset_id": dataset["id"], "teacher": "simulated", "options": options, "max_requests": 1000}
    judgement, location = post(client, "/v1/judgements", 202, **order)
    until(lambda: client.get(location).json()["usage"]["requests"] > 5)
    assert client.post(f"{location}/pause").json()["status"] in ("pausing", "paused")
    until(lambda: client.get(location).json()["status"] == "paused")
    paused = client.get(location).json()
    assert 0 < paused["done_rows"] < paused["rows"] and paused["usage"]["in_flight"] == 0
    account = client.get(f"/v1/accounts/{judgement['account_id']}").json()
    assert (account["owner_type"], account["owner_id"], account["state"]) == ("judgement", judgement["id"], "stopped")
    assert client.post(f"{location}/resume").json()["status"] == "queued"
    ended = until_ended(client, location, 240)
    assert (ended["status"], ended["done_rows"]) == ("succeeded", ROWS), ended
    with Seedbed(faulty.url, faulty.api_key) as seedbed:
        report = seedbed.judgement_report(judgement["id"])
        states = [event["data"]["status"] for event in seedbed.events(judgement["id"]) if event["type"] == "status"]
        assert next(seedbed.find("judgements", dataset_id=dataset["id"]))["id"] == judgement["id"]
    assert states == ["queued", "running", "pausing", "paused", "queued", "running", "succeeded"]
    assert {step["name"] for step in report["economy"]["steps"]} == {"judge_question", "judge_answer"}
    assert report["outcomes"] == ended["outcomes"]
    assert {"judge.question_clarity", "judge.clarity", "judge.harmlessness"} <= report["quality"]["scores"].keys()


def test_a_judgement_is_cancelled_and_what_was_judged_stays(client, faulty, dataset, tmp_path):
    many = import_rows(faulty, dataset, tmp_path / "rows.jsonl", MANY_ROWS)
    order = {"dataset_id": dataset["id"], "teacher": "simulated", "filter": {"import_id": many["id"]}, "reject": True}
    _, location = post(client, "/v1/judgements", 202, **order)
    until(lambda: client.get(location).json()["done_rows"])
    assert client.post(f"{location}/cancel").json()["status"] == "cancelling"
    ended = until_ended(client, location)
    assert (ended["status"], ended["stop_reason"], ended["rejected"]) == ("cancelled", "cancelled", 0)
    assert 0 < ended["done_rows"] < MANY_ROWS and client.post(f"{location}/cancel").json() == ended


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"teacher": "nobody"}, "/teacher"),
        ({"dataset_id": "ds_nope"}, "/dataset_id"),
        ({"filter": {"colour": "red"}}, "/filter/colour"),
        ({"options": {"rubric": [{"name": "Not a name"}]}}, "/options/rubric/0/name"),
        ({"max_usd": 0}, "/max_usd"),
    ],
)
def test_what_cannot_be_judged_is_refused(client, dataset, imported, change, pointer):
    answer = client.post("/v1/judgements", json={"dataset_id": dataset["id"], "teacher": "simulated", **change})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_the_schema_of_the_options_is_there_to_read(client):
    schema = client.get("/v1/judgements/options").json()["options"]
    assert {"question", "answer", "aspects", "rubric", "minimum_scores"} <= schema["properties"].keys()
    assert client.get("/v1/judgements/jdg_nope").status_code == 404
