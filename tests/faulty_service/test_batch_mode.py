"""Runs through the Files and Batches endpoints: the same ledger, the batch price, and nothing bought twice."""

import os
import signal
import time
import uuid
from decimal import Decimal

import httpx
import pytest

from tests.rest import teacher_stats
from tests.waiting import until, until_ended


def start(client: httpx.Client, **body) -> str:
    dataset = client.post(
        "/v1/datasets", json={"name": f"batch {uuid.uuid4()}", "seeds": {"bundled": "english"}}
    ).json()
    answer = client.post(
        "/v1/runs",
        json={
            "dataset_id": dataset["id"],
            "teacher": "simulated",
            "mode": "batch",
            "target": 15,
            "seed": time.time_ns() % 10**6,
            **body,
        },
    )
    assert answer.status_code == 202, answer.text
    return answer.headers["location"]


def events(client: httpx.Client, place: str) -> list[dict]:
    page = client.get(f"{place}/events", params={"limit": 200}).json()["data"]
    return [item["data"] for item in page if item["type"] == "remote_batch"]


def has_event(client: httpx.Client, place: str, status: str) -> bool:
    return any(event["status"] == status for event in events(client, place))


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
    twice = [item["request_hashes"]["billed_more_than_once"] for item in (before, after)]
    assert twice[0] == twice[1]


def test_a_run_in_batches_ends_exactly_at_half_the_price(client, faulty):
    before = teacher_stats(faulty)
    location = start(client)
    run = until_ended(client, location)
    check(run, before, teacher_stats(faulty))
    done = [event for event in events(client, location) if event["status"] == "ended"]
    # Instructions, instances: at least a remote batch for each step.
    assert len(done) >= 2 and sum(item["answered"] for item in done) >= run["usage"]["requests"] - 10
    assert sum(item["failed"] for item in done) > 0


# Twice in a row, each time with a new worker that loads its encoder, is in the long form.
@pytest.mark.parametrize(
    "moments", [("submitted",), pytest.param(("preparing", "submitted"), marks=pytest.mark.long)], ids="-".join
)
def test_a_killed_worker_finds_its_remote_batches_again(client, faulty, moments):
    before = teacher_stats(faulty)
    location = start(client)
    for status in moments:
        until(lambda status=status: has_event(client, location, status))
        os.kill(faulty.processes["generation"].pid, signal.SIGKILL)
    check(until_ended(client, location), before, teacher_stats(faulty))


def test_a_run_in_batches_is_cancelled_before_its_remote_batch_is(client, faulty):
    location = start(client, target=500)
    until(lambda: has_event(client, location, "submitted"))
    client.post(f"{location}/cancel")
    run = until_ended(client, location)
    assert run["status"] == "cancelled"
    assert run["usage"]["in_flight"] == 0
    # The remote batch is cancelled, too, after the run has ended.
    until(lambda: has_event(client, location, "ended"))


def test_a_ceiling_holds_for_remote_batches(client):
    run = until_ended(client, start(client, target=500, max_requests=40))
    assert (run["status"], run["stop_reason"]) == ("succeeded", "max_requests")
    assert 30 <= run["usage"]["requests"] <= 40
