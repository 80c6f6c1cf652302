"""Bad input over real HTTP: an exact status, a problem that names the field, and nothing stored."""

import json
import subprocess
import sys
import uuid

import httpx
import pytest

from tests.waiting import HTTP_SECONDS

TASK = {"instruction": "Name three fruits that are red", "instances": [{"input": "", "output": "apple"}]}


@pytest.fixture(scope="module")
def dataset(api) -> str:
    created_dataset = api.post("/v1/datasets", json={"name": f"bad input {uuid.uuid4()}", "seeds": {"tasks": [TASK]}})
    assert created_dataset.status_code == 201, created_dataset.text
    return created_dataset.json()["id"]


@pytest.fixture(scope="module")
def empty_dataset(api) -> str:
    return api.post("/v1/datasets", json={"name": f"empty {uuid.uuid4()}"}).json()["id"]


def everything(api) -> dict:
    """Ids of all that creating requests could have stored."""
    return {
        kind: [item["id"] for item in api.get(f"/v1/{kind}", params={"limit": 200}).json()["data"]]
        for kind in ("datasets", "runs", "snapshots", "fine-tunes")
    }


def check_problem(answer: httpx.Response, status: int, pointer: str | None) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"].startswith("urn:seedbed:problem:")
    assert problem["detail"]
    if pointer is not None:
        assert pointer in [error["pointer"] for error in problem["errors"]], problem
    return problem


DATASETS = [
    ({}, "/name"),
    ({"name": ""}, "/name"),
    ({"name": 7}, "/name"),
    ({"name": "a\x00b"}, "/name"),
    ({"name": "x", "colour": "red"}, "/colour"),
    ({"name": "x", "language": "not a tag"}, "/language"),
    ({"name": "x", "seeds": {}}, "/seeds"),
    ({"name": "x", "seeds": {"tasks": []}}, "/seeds/tasks"),
    ({"name": "x", "seeds": {"bundled": "klingon"}}, "/seeds"),
    ({"name": "x", "seeds": {"bundled": "english", "tasks": [TASK]}}, "/seeds"),
    ({"name": "x", "seeds": {"tasks": [{"instruction": "  "}]}}, "/seeds/tasks/0/instruction"),
    ({"name": "x", "seeds": {"tasks": [TASK, {"instruction": "a", "answer": "b"}]}}, "/seeds/tasks/1/answer"),
    ({"name": "x", "lexical_threshold": 0.4}, "/lexical_threshold"),
    ({"name": "x", "semantic_threshold": 1.5}, "/semantic_threshold"),
    ({"name": "x", "semantic_threshold": "high"}, "/semantic_threshold"),
]


@pytest.mark.parametrize(("body", "pointer"), DATASETS)
def test_datasets(api, body, pointer):
    before = everything(api)
    check_problem(api.post("/v1/datasets", json=body), 422, pointer)
    assert everything(api) == before


RUNS = [
    ({"target": 0}, "/target"),
    ({"target": -3}, "/target"),
    ({"target": 100_001}, "/target"),
    ({"target": "many"}, "/target"),
    ({"target": 2.5}, "/target"),
    ({"teacher": "nobody"}, "/teacher"),
    ({"dataset_id": "ds_unknown"}, "/dataset_id"),
    ({"method": "magic"}, "/method"),
    ({"options": {"temperature": 9}}, "/options/temperature"),
    ({"options": {"warmth": 1}}, "/options/warmth"),
    ({"max_usd": 0}, "/max_usd"),
    ({"max_requests": 0}, "/max_requests"),
    ({"seed": -1}, "/seed"),
    ({"budget": 3}, "/budget"),
]


@pytest.mark.parametrize(("change", "pointer"), RUNS)
def test_runs(api, dataset, change, pointer):
    before = everything(api)
    body = {"dataset_id": dataset, "teacher": "simulated", "target": 5} | change
    check_problem(api.post("/v1/runs", json=body), 422, pointer)
    assert everything(api) == before


def test_a_run_needs_seeds(api, empty_dataset):
    body = {"dataset_id": empty_dataset, "teacher": "simulated", "target": 5}
    check_problem(api.post("/v1/runs", json=body), 422, "/dataset_id")


SNAPSHOTS = [
    ({"dataset_id": "ds_unknown"}, "/dataset_id"),
    ({"forms": []}, "/forms"),
    ({"forms": ["xml"]}, None),
    ({"splits": {"train": 0.5, "validation": 0.1, "test": 0.1}}, "/splits"),
    ({"shape": 1}, "/shape"),
    ({}, "/dataset_id"),
]


@pytest.mark.parametrize(("change", "pointer"), SNAPSHOTS)
def test_snapshots(api, dataset, change, pointer):
    before = everything(api)
    check_problem(api.post("/v1/snapshots", json={"dataset_id": dataset} | change), 422, pointer)
    assert everything(api) == before


FINE_TUNES = [
    ({"snapshot_id": "snap_unknown"}, "/snapshot_id"),
    ({"snapshot_id": "snap_unknown", "base_model": "gpt-99"}, "/base_model"),
    ({"snapshot_id": "snap_unknown", "method": "magic"}, "/method"),
    ({"snapshot_id": "snap_unknown", "hyperparameters": {"lora_rank": 0}}, "/hyperparameters/lora_rank"),
    ({"snapshot_id": "snap_unknown", "hyperparameters": {"speed": 1}}, "/hyperparameters/speed"),
    ({}, "/snapshot_id"),
]


@pytest.mark.parametrize(("body", "pointer"), FINE_TUNES)
def test_fine_tunes(api, body, pointer):
    before = everything(api)
    check_problem(api.post("/v1/fine-tunes", json=body), 422, pointer)
    assert everything(api) == before


@pytest.mark.parametrize("path", ["/v1/datasets", "/v1/runs", "/v1/snapshots", "/v1/fine-tunes"])
@pytest.mark.parametrize("content", [b'{"name": ', b"\xff\xfe", b"[1, 2", b"nonsense"])
def test_malformed_json(api, path, content):
    answer = api.post(path, content=content, headers={"content-type": "application/json"})
    check_problem(answer, 400, None)


@pytest.mark.parametrize("content", [b"[]", b'"text"', b"7", b"null"])
def test_json_that_is_no_object(api, content):
    answer = api.post("/v1/datasets", content=content, headers={"content-type": "application/json"})
    check_problem(answer, 422, None)


def test_half_a_character_is_refused(api):
    answer = api.post("/v1/datasets", content=b'{"name": "a\\ud800b"}', headers={"content-type": "application/json"})
    check_problem(answer, 422, "/name")


def test_deep_json_is_refused(api):
    deep = b'{"name": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    answer = api.post("/v1/datasets", content=deep, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit(api, declared):
    content = json.dumps({"name": "x" * (5 << 20)}).encode()
    body = content if declared else iter([content[n : n + 65536] for n in range(0, len(content), 65536)])
    answer = api.post("/v1/datasets", content=body, headers={"content-type": "application/json"})
    check_problem(answer, 413, None)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Basic abc",
        "Bearer nonsense",
        "Bearer sb_000000000000_000000000000000000000000000000000000000000000000",
    ],
)
@pytest.mark.parametrize("path", ["/v1/datasets", "/v1/runs", "/v1/teachers", "/v1/records/rec_1"])
def test_no_key_or_a_wrong_one(service, header, path):
    headers = {} if header is None else {"Authorization": header}
    answer = httpx.get(service.url + path, headers=headers, timeout=HTTP_SECONDS)
    check_problem(answer, 401, None)
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_right_id_with_a_wrong_secret(service):
    scheme, short, secret = service.api_key.split("_")
    wrong = f"{scheme}_{short}_{secret[::-1]}"
    headers = {"Authorization": f"Bearer {wrong}"}
    check_problem(httpx.get(service.url + "/v1/runs", headers=headers, timeout=HTTP_SECONDS), 401, None)


@pytest.fixture(scope="module")
def stranger(service):
    """A key of another project, made as the operator makes one."""
    environment = {"DATABASE_URL": service.database_url, "REDIS_URL": service.redis_url, "PATH": "/usr/bin:/bin"}
    code = (
        "from app.access import service; from app.persistence.db import transaction\n"
        "with transaction() as s: print(service.create_key(s, service.ensure_project(s, 'strangers'), 'test'))"
    )
    key = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    headers = {"Authorization": f"Bearer {key.stdout.strip()}"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=HTTP_SECONDS) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/datasets/{ds}", None),
        ("PATCH", "/v1/datasets/{ds}", {"name": "mine now"}),
        ("DELETE", "/v1/datasets/{ds}", None),
        ("GET", "/v1/datasets/{ds}/stats", None),
        ("GET", "/v1/datasets/{ds}/records", None),
        ("GET", "/v1/datasets/{ds}/imports", None),
        ("GET", "/v1/records/{rec}", None),
    ],
)
def test_another_projects_id_is_not_there(api, stranger, dataset, method, path, body):
    record = api.get(f"/v1/datasets/{dataset}/records").json()["data"][0]["id"]
    answer = stranger.request(method, path.format(ds=dataset, rec=record), json=body)
    check_problem(answer, 404, None)
    assert api.get(f"/v1/datasets/{dataset}").status_code == 200


def test_another_projects_dataset_can_not_be_used(stranger, dataset):
    body = {"dataset_id": dataset, "teacher": "simulated", "target": 5}
    check_problem(stranger.post("/v1/runs", json=body), 422, "/dataset_id")
    check_problem(stranger.post("/v1/snapshots", json={"dataset_id": dataset}), 422, "/dataset_id")
    assert stranger.get("/v1/datasets").json()["data"] == []


def test_the_same_idempotency_key_gives_the_first_answer(api):
    key, body = {"Idempotency-Key": str(uuid.uuid4())}, {"name": f"once {uuid.uuid4()}"}
    first = api.post("/v1/datasets", json=body, headers=key)
    again = api.post("/v1/datasets", json=body, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotent-replayed"] == "true"
    other = api.post("/v1/datasets", json={"name": "another"}, headers=key)
    check_problem(other, 422, "header/Idempotency-Key")


def test_a_run_is_started_once_per_key(api, dataset):
    key = {"Idempotency-Key": str(uuid.uuid4())}
    body = {"dataset_id": dataset, "teacher": "simulated", "target": 1}
    run_ids = {api.post("/v1/runs", json=body, headers=key).json()["id"] for _ in range(3)}
    assert len(run_ids) == 1
    api.post(f"/v1/runs/{run_ids.pop()}/cancel")


def test_a_refused_request_does_not_use_up_its_key(api):
    key, name = {"Idempotency-Key": str(uuid.uuid4())}, f"second try {uuid.uuid4()}"
    check_problem(api.post("/v1/datasets", json={"name": name, "language": "?"}, headers=key), 422, "/language")
    assert api.post("/v1/datasets", json={"name": name}, headers=key).status_code == 201


@pytest.mark.parametrize(
    ("content", "pointer"),
    [
        (b"", "body"),
        (b"\n\n", "body"),
        (b"not json\n", "line/1"),
        (b'{"instruction": "a", "output": "b"}\n{"instruction": "a"}\n', "line/2/output"),
        (b'{"instruction": "a", "output": "b", "extra": 1}\n', "line/1/extra"),
        (b'{"instruction": 5, "output": "b"}\n', "line/1/instruction"),
        (b'["a"]\n', "line/1/"),
        (b"\xff\xfe\n", "line/1"),
    ],
)
def test_imports(api, dataset, content, pointer):
    before = api.get(f"/v1/datasets/{dataset}/imports").json()
    headers = {"content-type": "application/jsonl"}
    answer = api.post(f"/v1/datasets/{dataset}/imports", content=content, headers=headers)
    check_problem(answer, 422, pointer)
    assert api.get(f"/v1/datasets/{dataset}/imports").json() == before


def test_an_import_says_what_it_takes(api, dataset):
    answer = api.post(f"/v1/datasets/{dataset}/imports", content=b"{}", headers={"content-type": "text/csv"})
    check_problem(answer, 415, None)
    answer = api.post(f"/v1/datasets/{dataset}/imports?kind=rows", content=b"{}")
    check_problem(answer, 422, "query/kind")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("PUT", "/v1/datasets", 405),
        ("GET", "/v1/datasets/ds_unknown", 404),
        ("GET", "/v1/runs/run_unknown", 404),
        ("POST", "/v1/runs/run_unknown/cancel", 404),
        ("GET", "/v1/runs/run_unknown/events", 404),
        ("GET", "/v1/snapshots/snap_unknown", 404),
        ("GET", "/v1/snapshots/snap_unknown/files/train.alpaca.jsonl", 404),
        ("GET", "/v1/fine-tunes/ft_unknown", 404),
        ("GET", "/v1/fine-tunes/ft_unknown/artifacts/../../secret", 404),
        ("GET", "/v1/runs/run_%00", 422),
        ("GET", "/v1/datasets?limit=0", 422),
        ("GET", "/v1/datasets?limit=1000", 422),
    ],
)
def test_paths_and_queries(api, method, path, status):
    check_problem(api.request(method, path), status, None)


def test_a_name_is_taken_once(api):
    name = f"twice {uuid.uuid4()}"
    assert api.post("/v1/datasets", json={"name": name}).status_code == 201
    check_problem(api.post("/v1/datasets", json={"name": name}), 422, "/name")


def test_text_that_no_store_can_hold_is_cleaned(api):
    tasks = [{"instruction": "Name a fruit\u0000 that is red", "instances": [{"output": "ap\u0000ple"}]}]
    created_dataset = api.post("/v1/datasets", json={"name": f"nul {uuid.uuid4()}", "seeds": {"tasks": tasks}})
    assert created_dataset.status_code == 201, created_dataset.text
    (row,) = api.get(f"/v1/datasets/{created_dataset.json()['id']}/records").json()["data"]
    assert (row["instruction"], row["output"]) == ("Name a fruit that is red", "apple")


def test_the_same_name_at_the_same_time_is_taken_once(api):
    from concurrent.futures import ThreadPoolExecutor

    body = {"name": f"race {uuid.uuid4()}"}
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: api.post("/v1/datasets", json=body).status_code, range(8)))
    assert statuses.count(201) == 1
    assert set(statuses) <= {201, 409, 422}


def test_the_same_idempotency_key_at_the_same_time_makes_one(api):
    from concurrent.futures import ThreadPoolExecutor

    key, body = {"Idempotency-Key": str(uuid.uuid4())}, {"name": f"race {uuid.uuid4()}"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.post("/v1/datasets", json=body, headers=key), range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
