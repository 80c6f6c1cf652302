"""Each fault of a teacher, with its own teacher: a bad reply costs one row, never a run."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from app.stack import Stack
from app.stack.state_dir import free_port
from tests.waiting import HTTP_SECONDS, PROCESS_SECONDS, until_ended

MATRIX = {
    "rate_limit": 0.6,
    "server_error": 0.25,
    "hang": 0.1,
    "drip": 0.1,
    "reset": 0.15,
    "cut_off": 0.2,
    "invalid_json": 0.2,
    "wrong_schema": 0.2,
    "empty": 0.2,
    "refusal": 0.2,
    "huge": 0.05,
    "not_utf8": 0.15,
    "wrong_usage": 0.5,
    "other_model": 0.5,
}
TEACHER = """
[[teachers]]
name = "{name}"
base_url = "http://127.0.0.1:{port}/v1"
model = "seedbed-simulated"
prompt_price = "0.15"
completion_price = "0.60"
in_flight = 8
timeout_seconds = {timeout}
"""
# After these no answer comes. From the others one comes, however slow the machine is.
SILENT = ("hang", "drip", "reset")
# Fewer rows can go by without a fault at a call whose reply becomes a row.
TARGET = 12


# A fault of each kind: of the limits, of the connection, of the reply, of its form, of its numbers. The others work
# the same way through the same code, and each is one more process: they are in the long form.
SHORT = ("rate_limit", "hang", "reset", "invalid_json", "refusal", "wrong_usage")
KINDS = [name if name in SHORT else pytest.param(name, marks=pytest.mark.long) for name in MATRIX]


@pytest.fixture(scope="module")
def runs(request, tmp_path_factory) -> Iterator[dict[str, dict]]:
    """Make a run with the teacher of each selected test, all at the same time.

    Return the ended runs by fault, each with its rows and the counts of its teacher.
    """
    folder = tmp_path_factory.mktemp("matrix")
    selected = {item.callspec.params["fault"] for item in request.session.items if item.path == request.path}
    ports = {name: free_port() for name in MATRIX if name in selected}
    config = folder / "matrix.toml"
    config.write_text(
        "".join(
            TEACHER.format(name=name, port=port, timeout=3 if name in SILENT else HTTP_SECONDS)
            for name, port in ports.items()
        )
    )
    with ExitStack() as stack:
        for name, port in ports.items():
            fault = f"{name}={MATRIX[name]}"
            command = [sys.executable, "-m", "app.simulator", "--port", str(port), "--fault", fault]
            process = subprocess.Popen([*command, "--latency", "0.05"], stdout=subprocess.DEVNULL)
            stack.callback(process.wait, PROCESS_SECONDS)
            stack.callback(process.terminate)
        only = ("postgres", "redis", "api", "generation", "sweeper")
        service = stack.enter_context(
            Stack(folder / "stack", only=only, durable=False, config=config, port=free_port())
        )
        headers = {"Authorization": f"Bearer {service.api_key}"}
        client = stack.enter_context(httpx.Client(base_url=service.url, headers=headers, timeout=HTTP_SECONDS))
        started = {name: _start(client, name) for name in ports}
        yield {name: _wait_and_read(client, ports[name], location) for name, location in started.items()}


def _start(client: httpx.Client, teacher: str) -> str:
    dataset = client.post("/v1/datasets", json={"name": f"{teacher} {uuid.uuid4()}", "seeds": {"bundled": "english"}})
    body = {"dataset_id": dataset.json()["id"], "teacher": teacher, "target": TARGET}
    return client.post("/v1/runs", json=body).headers["location"]


def _wait_and_read(client: httpx.Client, port: int, location: str) -> dict:
    run = until_ended(client, location, 300)
    rows = client.get(f"/v1/datasets/{run['dataset_id']}/records", params={"run_id": run["id"], "limit": 200}).json()
    stats = httpx.get(f"http://127.0.0.1:{port}/stats", timeout=HTTP_SECONDS).json()
    return run | {"rows": rows["data"], "stats": stats}


@pytest.mark.parametrize("fault", KINDS)
def test_the_run_ends_with_its_target_and_its_books_balance(runs, fault):
    run = runs[fault]
    assert (run["status"], run["stop_reason"]) == ("succeeded", "target_reached"), run["error"]
    assert run["counts"]["accepted"] == TARGET == sum(row["status"] == "accepted" for row in run["rows"])
    assert run["counts"]["offered"] == len(run["rows"])
    assert run["usage"]["in_flight"] == run["counts"]["in_flight"] == 0
    assert run["stats"]["outcomes"].get(fault, 0) > 0, "the teacher made no such fault"


@pytest.mark.parametrize("fault", KINDS)
def test_nothing_is_bought_again_but_what_never_arrived(runs, fault):
    run = runs[fault]
    twice = run["stats"]["request_hashes"]["billed_more_than_once"]
    assert twice <= run["usage"]["unknown_requests"]
    if fault not in SILENT:
        assert run["usage"]["unknown_requests"] == 0
        billed = run["stats"]["tokens"]
        if fault != "wrong_usage" and fault != "not_utf8":
            spent = run["usage"]["prompt_tokens"], run["usage"]["completion_tokens"]
            assert spent == (billed["prompt"], billed["completion"])


UNREADABLE = {"malformed_reply", "cut_off", "unreadable_reply"}
REASONS = {
    "refusal": {"refused"},
    "empty": {"empty_reply"},
    "cut_off": UNREADABLE,
    "invalid_json": UNREADABLE,
    "wrong_schema": UNREADABLE,
}


@pytest.mark.parametrize(
    "fault", [name if name in SHORT else pytest.param(name, marks=pytest.mark.long) for name in REASONS]
)
def test_faults_of_a_reply_are_rejections_that_say_so(runs, fault):
    assert REASONS[fault] & set(runs[fault]["counts"]["rejected_by_reason"])
