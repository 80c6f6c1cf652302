"""Runs through the Files and Batches endpoints: the same ledger, the batch price, and nothing bought twice."""

import os
import signal
import time
import uuid
from collections.abc import Iterator
from decimal import Decimal

import httpx
import pytest

from app.stack import Stack
from tests.conftest import FAST

FAULTS = ("--fault", "server_error=0.05", "--fault", "invalid_json=0.03", "--batch-expire", "0.1")


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[Stack]:
    options = ("--batch-seconds", "0.5", *FAULTS)
    only = ("postgres", "redis", "simulator", "api", "generation", "sweeper")
    home = tmp_path_factory.mktemp("batches")
    with Stack(home, only=only, durable=False, environment=FAST, simulator_options=options) as one:
        yield one


@pytest.fixture
def client(stack) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=30) as client:
        yield client


def start(client: httpx.Client, **body) -> str:
    made = client.post("/v1/datasets", json={"name": f"batch {uuid.uuid4()}", "seeds": {"bundled": "english"}}).json()
    answer = client.post(
        "/v1/runs",
        json={
            "dataset_id": made["id"],
            "teacher": "simulated",
            "mode": "batch",
            "target": 15,
            "seed": time.time_ns() % 10**6,
            **body,
        },
    )
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


def until(client: httpx.Client, place: str, true, seconds: float = 120) -> dict:
    end = time.monotonic() + seconds
    while not true(run := client.get(place).json()):
        assert time.monotonic() < end, run
        time.sleep(0.1)
    return run


def ended(run: dict) -> bool:
    return run["status"] in ("succeeded", "failed", "cancelled")


def events(client: httpx.Client, place: str) -> list[dict]:
    found = client.get(f"{place}/events", params={"limit": 200}).json()["data"]
    return [one["data"] for one in found if one["type"] == "remote_batch"]


def stats(stack: Stack) -> dict:
    return httpx.get(stack.teacher_url.removesuffix("/v1") + "/stats").json()


def check(run: dict, before: dict, after: dict) -> None:
    """The counts are exact, the price is half, and the teacher, who is the witness, billed nothing twice."""
    assert (run["status"], run["stop_reason"], run["counts"]["accepted"]) == ("succeeded", "target_reached", 15), run
    assert run["usage"]["in_flight"] == run["counts"]["in_flight"] == 0
    assert run["usage"]["unknown_requests"] == 0
    spent = (
        after["tokens"]["prompt"] - before["tokens"]["prompt"],
        after["tokens"]["completion"] - before["tokens"]["completion"],
    )
    assert (run["usage"]["prompt_tokens"], run["usage"]["completion_tokens"]) == spent
    cached = run["usage"]["cached_tokens"]
    full = (spent[0] - cached) * Decimal("0.15") + cached * Decimal("0.075") + spent[1] * Decimal("0.60")
    assert Decimal(run["usage"]["cost_usd"]) == pytest.approx(full / 2_000_000, rel=Decimal("0.01"))
    twice = [one["request_hashes"]["billed_more_than_once"] for one in (before, after)]
    assert twice[0] == twice[1]


def test_a_run_in_batches_ends_exactly_at_half_the_price(client, stack):
    before = stats(stack)
    place = start(client)
    run = until(client, place, ended)
    check(run, before, stats(stack))
    done = [one for one in events(client, place) if one["status"] == "ended"]
    # Instructions, classifications, instances: at least a remote batch for each step.
    assert len(done) >= 3 and sum(one["answered"] for one in done) >= run["usage"]["requests"] - 10
    assert sum(one["failed"] for one in done) > 0


def test_a_killed_worker_finds_its_remote_batches_again(client, stack):
    before = stats(stack)
    place = start(client)
    for status in ("preparing", "submitted"):
        until(client, place, lambda _, status=status: any(one["status"] == status for one in events(client, place)))
        os.kill(stack.processes["generation"].pid, signal.SIGKILL)
    check(until(client, place, ended), before, stats(stack))


def test_a_run_in_batches_is_cancelled_soon(client, stack):
    place = start(client, target=500)
    until(client, place, lambda _: any(one["status"] == "submitted" for one in events(client, place)))
    began = time.monotonic()
    client.post(f"{place}/cancel")
    run = until(client, place, ended)
    assert run["status"] == "cancelled" and time.monotonic() - began < 5
    assert run["usage"]["in_flight"] == 0
    # The remote batch is cancelled, too, after the run has ended.
    until(client, place, lambda _: any(one["status"] == "ended" for one in events(client, place)), 60)


def test_a_ceiling_holds_for_remote_batches(client):
    run = until(client, start(client, target=500, max_requests=40), ended)
    assert (run["status"], run["stop_reason"]) == ("succeeded", "max_requests")
    assert 30 <= run["usage"]["requests"] <= 40
