"""Local scores as a job: over the rows of a dataset, stored with them, used by a snapshot."""

import json
import uuid

import pytest

from tests.rest import post, rows_of
from tests.waiting import until_ended


@pytest.fixture(scope="module")
def dataset(api) -> dict:
    created_dataset, location = post(api, "/v1/datasets", 201, name=f"scored {uuid.uuid4()}")
    rows = [{"instruction": f"Explain part {n} of {w}", "output": f"{w} has a part {n}."} for n, w in enumerate(WORDS)]
    body = "\n".join(json.dumps(row) for row in rows).encode()
    answer = api.post(f"{location}/imports", content=body, headers={"content-type": "application/jsonl"})
    until_ended(api, answer.headers["location"])
    return created_dataset


WORDS = ("harbours", "mills", "orchards", "violins", "glaciers", "bakeries", "comets", "theatres", "deserts", "looms")


def test_every_row_gets_its_scores_and_a_snapshot_can_choose_by_them(api, dataset):
    scoring, location = post(api, "/v1/likelihood-scores", 202, dataset_id=dataset["id"], max_length=256)
    done = until_ended(api, location, 120)
    assert (done["status"], done["stop_reason"]) == ("succeeded", "completed"), done
    rows = rows_of(api, dataset, status="accepted")
    assert done["done_rows"] == done["rows"] == len(rows) == scoring["rows"]
    assert all(row["scores"]["local.perplexity"] > 1 and row["scores"]["local.ifd"] > 0 for row in rows)
    assert done["summary"]["scored"] == len(rows)
    chosen = {"selection": {"method": "top_k", "k": 2, "quality": "local.ifd"}, "splits": {"train": 1.0}}
    _, location = post(api, "/v1/snapshots", 202, dataset_id=dataset["id"], forms=["alpaca"], **chosen)
    assert until_ended(api, location)["rows"] == 2
    lines = [json.loads(line) for line in api.get(f"{location}/files/train.alpaca.jsonl").text.splitlines()]
    best = sorted(rows, key=lambda row: -row["scores"]["local.ifd"])[:2]
    assert {line["instruction"] for line in lines} == {row["instruction"] for row in best}
    kinds = {event["type"] for event in api.get(f"/v1/likelihood-scores/{done['id']}/events").json()["data"]}
    assert {"status", "stage", "progress"} <= kinds


def test_a_scoring_can_be_cancelled_and_nothing_is_left_of_it(api, dataset):
    created_scoring, location = post(api, "/v1/likelihood-scores", 202, dataset_id=dataset["id"])
    assert api.post(f"{location}/cancel").json()["status"] in ("cancelling", "cancelled")
    ended = until_ended(api, location, 60)
    assert ended["status"] == "cancelled"
    assert api.post(f"{location}/cancel").json() == ended
    assert created_scoring["id"] in [scoring["id"] for scoring in api.get("/v1/likelihood-scores").json()["data"]]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"base_model": "nope"}, "/base_model"),
        ({"dataset_id": "ds_nope"}, "/dataset_id"),
        ({"run_id": "run_nope"}, "/run_id"),
        ({"max_length": 1}, "/max_length"),
    ],
)
def test_what_cannot_be_scored_is_refused(api, dataset, change, pointer):
    answer = api.post("/v1/likelihood-scores", json={"dataset_id": dataset["id"]} | change)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
