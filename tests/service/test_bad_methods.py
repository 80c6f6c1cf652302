"""What can't be run, imported or exported is refused early, with the field at fault, and leaves nothing behind."""

import json
import uuid

import pytest

from tests.rest import post
from tests.waiting import until_ended

ROW = {"instruction": "Name the longest river of Asia", "output": "The Yangtze."}


@pytest.fixture(scope="module")
def dataset(api) -> dict:
    """Two accepted rows, and nothing else."""
    created_dataset, _ = post(api, "/v1/datasets", 201, name=f"bare {uuid.uuid4()}")
    rows = [ROW, {"instruction": "Why do owls hunt at night?", "output": "They see well in the dark."}]
    answer = upload(api, created_dataset, [json.dumps(row) for row in rows])
    until_ended(api, answer.headers["location"])
    return created_dataset


def upload(api, dataset, lines, content_type="application/jsonl", **query):
    body = "\n".join(lines).encode() if isinstance(lines, list) else lines
    location = f"/v1/datasets/{dataset['id']}/imports"
    return api.post(location, params=query, content=body, headers={"content-type": content_type})


RUNS = [
    ({"method": "nope"}, "/method"),
    ({"method": "self_instruct"}, "/dataset_id"),
    ({"teacher": None}, "/teacher"),
    ({"judge": "nope"}, "/judge"),
    ({"target": None}, "/target"),
    ({"target": 10**9}, "/target"),
    ({"method": "templates", "teacher": None}, "/options/tasks"),
    ({"method": "documents"}, "/options/document_ids"),
    ({"method": "responses"}, "/options/parents"),
    ({"options": {"operations": {"nope": 1}}}, "/options/operations"),
    ({"options": {"rounds": 11}}, "/options/rounds"),
    ({"options": {"parents": {"run_id": "run_nope"}}}, "/options/parents/run_id"),
    ({"options": {"parents": {"topic": "nothing of that kind"}}}, "/options/parents"),
    ({"options": {"rules": [{"name": "too_short", "parameter": "x"}]}}, "/options/rules"),
    ({"options": {"rules": [{"name": "nope"}]}}, "/options/rules/0"),
    ({"options": {"rules": [{"name": "too_short"}]}}, "/options/rules/0/parameter"),
    (
        {"options": {"rules": [{"name": "length", "max": 9}, {"name": "pattern", "pattern": "(a"}]}},
        "/options/rules/1/pattern",
    ),
    ({"options": {"rules": "nope"}}, "/options/rules"),
    ({"options": {"parents": {"text": "\u0000"}}}, "/options"),
    ({"options": {"minimum_scores": {"relevance": 7}}}, "/options/minimum_scores"),
    ({"options": {"judging": {"aspects": ["charm"]}}}, "/options/judging/aspects"),
    ({"options": {"nope": 1}}, "/options/nope"),
    ({"method": "dialogue", "options": {"min_turns": 4, "max_turns": 2}}, "/options"),
    ({"method": "safety", "options": {"categories": ["nope"]}}, "/options/categories"),
    ({"method": "safety", "options": {"share": 0.9}}, "/options/share"),
    ({"method": "self_instruct", "options": {"task_types": {"a": -1}}}, "/options/task_types"),
]


@pytest.mark.parametrize(("change", "pointer"), RUNS, ids=[f"{n}{run[1]}" for n, run in enumerate(RUNS)])
def test_a_run_that_cannot_be(api, dataset, change, pointer):
    body = {"dataset_id": dataset["id"], "method": "evol_instruct", "teacher": "simulated", "target": 5}
    answer = api.post("/v1/runs", json={name: value for name, value in (body | change).items() if value is not None})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["pointer"].startswith(pointer)
    assert api.get("/v1/runs", params={"dataset_id": dataset["id"]}).json()["data"] == []


@pytest.mark.parametrize(
    ("lines", "query", "status", "words"),
    [
        (['{"text": "x", "label": "y"}'], {"kind": "labelled"}, 422, "need a task"),
        (['{"text": "x", "label": "y"}'], {"kind": "labelled", "task": "nope"}, 422, "need a task"),
        (['{"text": "x"}'], {"kind": "labelled", "task": "sentiment"}, 422, "label is missing"),
        (['["x"]'], {"kind": "labelled", "task": "sentiment"}, 422, "dictionary"),
        ([json.dumps(ROW)], {"kind": "records", "task": "sentiment"}, 422, "only labelled rows"),
        (['{"title": "x"}'], {"kind": "documents"}, 422, "text"),
        (['{"text": "  "}'], {"kind": "documents"}, 422, "blank"),
        ([json.dumps(ROW)], {"kind": "instructions"}, 422, "output"),
        ([json.dumps(ROW)], {"kind": "nope"}, 422, "kind"),
        (b"plain", {"kind": "records", "content_type": "text/plain"}, 415, "Only a document"),
        (b"\xff\xfe", {"kind": "documents", "content_type": "text/plain"}, 422, "UTF-8"),
        (b"", {"kind": "documents", "content_type": "text/plain"}, 422, "at least 1"),
    ],
)
def test_an_upload_that_cannot_be(api, dataset, lines, query, status, words):
    before = api.get(f"/v1/datasets/{dataset['id']}/stats").json()
    answer = upload(api, dataset, lines, **query)
    assert answer.status_code == status, answer.text
    assert words in answer.text
    assert api.get(f"/v1/datasets/{dataset['id']}/stats").json() == before


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"forms": ["dpo"]}, "/forms"),
        ({"forms": ["nope"]}, "/forms"),
        ({"selection": {"method": "top_k", "k": 5}}, "/selection"),
        ({"selection": {"method": "nope", "k": 5}}, "/selection"),
        ({"selection": {"method": "facility_location", "k": 0}}, "/selection/k"),
        ({"mix": {"weights": {"a": 0}}}, "/mix"),
        ({"mix": {"temperature": 0.1}}, "/mix/temperature"),
        ({"minimum_scores": {"judge.overall": 4}}, "/dataset_id"),
        ({"reasoning": "perhaps"}, "/reasoning"),
    ],
)
def test_a_snapshot_that_cannot_be(api, dataset, change, pointer):
    answer = api.post("/v1/snapshots", json={"dataset_id": dataset["id"]} | change)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"].startswith(pointer)


def test_an_upload_is_kept_once_and_a_plain_text_is_a_document(api, dataset):
    text = "A sentence about owls. " * 120
    first = until_ended(
        api, upload(api, dataset, text.encode(), "text/plain", kind="documents", title="Owls").headers["location"]
    )
    again = upload(api, dataset, [json.dumps({"title": "Owls", "text": text})], kind="documents")
    second = until_ended(api, again.headers["location"])
    assert (first["accepted"], second["accepted"]) == (1, 0)
    assert second["rejected_by_reason"] == {"duplicate_exact": 1}
    passages = api.get(f"/v1/datasets/{dataset['id']}/sources", params={"kind": "passage"}).json()["data"]
    assert len(passages) > 1 and all(item["fields"]["title"] == "Owls" for item in passages)
    assert api.get(f"/v1/datasets/{dataset['id']}/stats").json()["sources"]["document"] == 1


def test_the_methods_and_tasks_are_told_with_their_options_and_fields(api):
    methods = {item["name"]: item for item in api.get("/v1/methods").json()["data"]}
    assert set(methods) == {
        *("self_instruct", "evol_instruct", "responses", "dialogue", "templates", "documents", "safety"),
    }
    assert methods["evol_instruct"]["options"]["properties"]["rounds"]["default"] == 4
    for method in methods.values():
        assert all(option["description"] for option in method["options"]["properties"].values()), method["name"]
    tasks = {task["name"]: task for task in api.get("/v1/tasks").json()["data"]}
    assert len(tasks) >= 12 and all(min(item["phrasings"].values()) >= 8 for item in tasks.values())
