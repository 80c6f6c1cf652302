"""Maintenance jobs, neighbours and encoders through REST and real workers."""

import json
import uuid

import httpx
import pytest

from tests.rest import post, rows_of
from tests.waiting import until_ended

JSONL = {"content-type": "application/jsonl"}
QUESTION = "A baker sells forty loaves in the morning and half as many in the afternoon; how many does he sell in all?"


@pytest.fixture(scope="module")
def run(api) -> dict:
    dataset, _ = post(api, "/v1/datasets", 201, name=f"maintenance {uuid.uuid4()}", seeds={"bundled": "english"})
    _, location = post(api, "/v1/runs", 202, dataset_id=dataset["id"], teacher="simulated", target=30)
    return until_ended(api, location)


def imported(api: httpx.Client, dataset_id: str, *rows: dict, **params) -> httpx.Response:
    content = "\n".join(json.dumps(row) for row in rows).encode()
    return api.post(f"/v1/datasets/{dataset_id}/imports", content=content, headers=JSONL, params=params)


def test_a_refilter_is_previewed_applied_and_undone(api, run):
    calls = run["usage"]["requests"]
    _, location = post(api, f"/v1/runs/{run['id']}/refilter", 202, lexical_threshold=0.55)
    ended_job = until_ended(api, location)
    assert (ended_job["status"], ended_job["kind"]) == ("succeeded", "refilter")
    out = sum(ended_job["result"]["moved_out"].values())
    assert ended_job["result"]["accepted_before"] == 30 and ended_job["result"]["applied"] is False
    assert api.get(f"/v1/runs/{run['id']}").json()["counts"]["accepted"] == 30
    _, location = post(api, f"/v1/runs/{run['id']}/refilter", 202, lexical_threshold=0.55, apply=True)
    applied = until_ended(api, location)["result"]
    assert applied["applied"] is True and sum(applied["moved_out"].values()) == out
    now = api.get(f"/v1/runs/{run['id']}").json()
    assert now["counts"]["accepted"] == applied["accepted_after"]
    assert now["counts"]["offered"] == run["counts"]["offered"]
    assert now["usage"]["requests"] == calls
    for row in rows_of(api, {"id": run["dataset_id"]}, run_id=run["id"]):
        if row["decision"] > 1:
            old = api.get(f"/v1/records/{row['id']}").json()["decisions"]
            assert [item["decision"] for item in old] == [1]
            assert (old[0]["status"], old[0]["reason"]) != (row["status"], row["reason"])
    _, location = post(api, f"/v1/runs/{run['id']}/refilter", 202, apply=True)
    assert until_ended(api, location)["result"]["accepted_after"] == 30


def test_an_evaluation_set_is_found_and_its_rows_dropped(api, run):
    row = {"instruction": f"Solve: {QUESTION}", "output": "Sixty."}
    done = until_ended(api, imported(api, run["dataset_id"], row).headers["location"])
    assert done["accepted"] == 1
    lines = [{"question": QUESTION, "answer": "Sixty."}, {"text": "too short"}]
    content = "\n".join(json.dumps(line) for line in lines)
    evaluation_set = api.post(
        "/v1/evaluation-sets", content=content, headers=JSONL, params={"name": f"exam {uuid.uuid4()}"}
    )
    assert (evaluation_set.status_code, evaluation_set.json()["rows"]) == (201, 2)
    request = {"evaluation_sets": [evaluation_set.json()["id"]], "action": "drop"}
    _, location = post(api, f"/v1/datasets/{run['dataset_id']}/decontaminations", 202, **request)
    ended_job = until_ended(api, location)
    assert ended_job["result"]["by_kind"] == {"ngram": 1} and ended_job["result"]["items_too_short_for_ngrams"] == 1
    match = next(item for item in api.get(f"{location}/matches").json()["data"] if item["kind"] == "ngram")
    text = row["instruction"]
    assert text[match["start"] : match["end"]] == match["span"] and match["score"] == 1.0
    (dropped,) = rows_of(api, {"id": run["dataset_id"]}, reason="contaminated")
    assert (dropped["id"], dropped["nearest_text"]) == (match["record_id"], QUESTION)
    assert api.delete(f"/v1/evaluation-sets/{evaluation_set.json()['id']}").status_code == 204
    assert api.get(f"{location}/matches").json()["data"]


def test_neighbours_of_accepted_and_rejected_rows(api, run):
    for status in ("accepted", "rejected"):
        row = rows_of(api, {"id": run["dataset_id"]}, run_id=run["id"], status=status)[0]
        near = api.get(f"/v1/records/{row['id']}/neighbours", params={"limit": 5}).json()["data"]
        assert len(near) == 5 and row["id"] not in {item["id"] for item in near}
        assert all(0 <= item["lexical"] <= 1 and -1 <= item["semantic"] <= 1 for item in near)
        best = [max(item["lexical"], item["semantic"]) for item in near]
        assert best == sorted(best, reverse=True)


def test_rows_may_bring_their_vectors_if_they_are_of_this_encoder(api, run):
    id, row = run["dataset_id"], {"instruction": f"Say {uuid.uuid4()} in a poem", "output": "x"}
    encoding = api.get(f"/v1/datasets/{id}").json()["encoding"]
    assert (encoding["name"], encoding["dimensions"]) == ("all-MiniLM-L6-v2", 384)
    vector = [1.0] + [0.0] * 383
    for refused, params, pointer in [
        (row | {"embedding": vector}, {}, "line/1"),
        (row | {"embedding": vector[:5]}, {"encoder": encoding["name"]}, "line/1"),
        (row | {"embedding": [0.0] * 384}, {"encoder": encoding["name"]}, "line/1/embedding"),
        (row | {"embedding": vector}, {"encoder": "another"}, "query/encoder"),
        (row | {"embedding": vector}, {"encoder": encoding["name"], "revision": "other"}, "query/encoder"),
    ]:
        answer = imported(api, id, refused, **params)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer), answer.text
    assert "reencode" in imported(api, id, row, encoder="another").json()["detail"]
    answer = imported(api, id, row | {"embedding": vector}, encoder=encoding["name"])
    done = until_ended(api, answer.headers["location"])
    assert done["accepted"] == 1
    dataset = api.get(f"/v1/datasets/{id}/imports").json()["data"]
    assert sum(item["id"] == done["id"] for item in dataset) == 1


def test_a_dataset_is_encoded_anew(api, run):
    _, location = post(api, f"/v1/datasets/{run['dataset_id']}/reencode", 202)
    ended_job = until_ended(api, location)
    assert ended_job["status"] == "succeeded" and ended_job["done_rows"] == ended_job["rows"] > 200
    assert ended_job["result"]["after"] == ended_job["result"]["before"]


def test_a_run_that_finds_nothing_new_ends_as_saturated(api):
    seeds = [{"instruction": "Name a red fruit", "instances": [{"input": "", "output": "apple"}]}]
    # Nearly everything is near to everything: what comes is almost never new.
    rules = {"semantic_threshold": 0.05, "seeds": {"tasks": seeds}}
    dataset, _ = post(api, "/v1/datasets", 201, name=f"narrow {uuid.uuid4()}", **rules)
    request = {"dataset_id": dataset["id"], "teacher": "simulated", "target": 500, "saturation_window": 40}
    _, location = post(api, "/v1/runs", 202, **request, saturation_share=0.2)
    done = until_ended(api, location)
    assert (done["status"], done["stop_reason"]) == ("succeeded", "saturated")
    assert done["counts"]["accepted"] < 0.5 * done["counts"]["offered"]
    novelty = api.get(f"{location}/report").json()["novelty"]
    assert novelty["points"][-1]["offered"] == done["counts"]["offered"]
    assert novelty["points"][-1]["share"] < 0.5


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/v1/datasets", {"name": "x", "lexical_threshold": 0.5}, "/lexical_threshold"),
        ("/v1/datasets", {"name": "x", "lexical_threshold": 1.2}, "/lexical_threshold"),
        ("/v1/datasets", {"name": "x", "semantic_threshold": 0}, "/semantic_threshold"),
        ("/v1/datasets", {"name": "x", "scope": "everything"}, "/scope"),
        ("/v1/datasets", {"name": "x", "encoder": "unheard-of"}, "/encoder"),
        ("/v1/runs/{run}/refilter", {"lexical_threshold": 0.4}, "/lexical_threshold"),
        ("/v1/runs/{run}/refilter", {"rules": "unheard-of"}, "/rules"),
        ("/v1/runs/{run}/refilter", {"minimum_scores": {"unheard_of": 1}}, "/minimum_scores"),
        ("/v1/runs/{run}/refilter", {"treshold": 1}, "/treshold"),
        ("/v1/datasets/{dataset}/decontaminations", {"evaluation_sets": []}, "/evaluation_sets"),
        ("/v1/datasets/{dataset}/decontaminations", {"evaluation_sets": ["evs_x"]}, "/evaluation_sets"),
        ("/v1/datasets/{dataset}/decontaminations", {"evaluation_sets": ["e"], "ngram": 1}, "/ngram"),
        ("/v1/datasets/{dataset}/decontaminations", {"evaluation_sets": ["e"], "action": "burn"}, "/action"),
        ("/v1/datasets/{dataset}/reencode", {"encoder": "unheard-of"}, "/encoder"),
        ("/v1/runs", {"dataset_id": "ds_x", "teacher": "t", "target": 1, "saturation_share": 1}, "/saturation_share"),
    ],
)
def test_bad_input_is_a_422_that_changes_nothing(api, run, path, body, pointer):
    def state() -> list:
        places = ("datasets", "maintenance-jobs", "runs")
        return [api.get(f"/v1/{item}").json() for item in places] + [
            api.get(f"/v1/datasets/{run['dataset_id']}").json()
        ]

    before = state()
    answer = api.post(path.format(run=run["id"], dataset=run["dataset_id"]), json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"].startswith(pointer)
    assert state() == before


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"", 422), (b"{}", 422), (b"[1]", 422), (b'{"text": 5}', 422), (b"\xff", 422), (b'{"text": "x"}\nnot json', 422)],
)
def test_an_evaluation_set_that_cannot_be_read_is_refused_whole(api, content, status):
    answer = api.post("/v1/evaluation-sets", content=content, headers=JSONL, params={"name": f"bad {uuid.uuid4()}"})
    assert answer.status_code == status, answer.text
    assert "Nothing was kept" in answer.json()["detail"]


def test_the_encoders_and_another_projects_maintenance_jobs(api, run):
    assert [encoder["name"] for encoder in api.get("/v1/encoders").json()["data"] if encoder["default"]] == [
        "all-MiniLM-L6-v2"
    ]
    for path in (
        "/v1/maintenance-jobs/rev_x",
        "/v1/maintenance-jobs/rev_x/matches",
        "/v1/evaluation-sets/evs_x",
        "/v1/records/r/neighbours",
    ):
        assert api.get(path).status_code == 404
