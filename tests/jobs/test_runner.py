"""Attempts at jobs on a real Postgres: faults, lost workers, workers that end, and what a waiting job says."""

import threading
from dataclasses import replace

import pytest
from sqlalchemy import text, update

from app.jobs import event_log, queue_position, runner, steering
from app.jobs.kinds import JobFailed
from app.jobs.leases import claim_row, seconds_from_now
from app.jobs.presence import Presence
from app.persistence.db import transaction
from app.snapshots.writing import KIND
from app.tables.snapshots import Snapshot
from tests.jobs.orders import ORDERS, leftovers, order_snapshot, read


@pytest.fixture(params=ORDERS)
def order(request):
    return ORDERS[request.param]


def raising(error: Exception, kind=KIND):
    def perform(job, *tools) -> None:
        raise error

    return replace(kind, perform=perform)


def lose_the_worker(kind, row, attempt: int) -> None:
    """As a killed worker leaves the row."""
    with transaction() as session:
        held = session.get(kind.table, row.id)
        held.status, held.attempt = "running", attempt - 1
        claim_row(session, held)
        held.lease_expires_at = seconds_from_now(-1)


def test_a_lost_worker_is_the_same_for_every_kind(bench, order):
    row = order.make(bench)
    lose_the_worker(order.kind, row, 1)
    steering.recover_lost(order.kind)
    again = read(order.kind.table, row.id)
    assert (again.status, again.attempt, again.lease_owner) == ("queued", 1, None)
    lose_the_worker(order.kind, row, order.kind.max_attempts)
    steering.recover_lost(order.kind)
    ended = read(order.kind.table, row.id)
    assert (ended.status, ended.stop_reason) == ("failed", "worker_lost")
    assert str(order.kind.max_attempts) in ended.error and leftovers(row.id) == []


def test_a_claim_after_the_last_lost_worker_ends_the_job(snapshot):
    lose_the_worker(KIND, snapshot, KIND.max_attempts)
    runner.work(KIND, snapshot.id)
    assert read(Snapshot, snapshot.id).stop_reason == "worker_lost"


def test_a_fault_is_tried_again_later_and_ends_after_the_last_attempt(snapshot):
    for attempt in range(1, KIND.max_attempts + 1):
        runner.work(raising(RuntimeError("broken")), snapshot.id)
        row = read(Snapshot, snapshot.id)
        assert row.attempt == attempt
        if attempt < KIND.max_attempts:
            assert row.status == "queued" and row.retry_at is not None
            with transaction() as session:
                assert snapshot.id not in runner.list_waiting(session, KIND)
                session.execute(
                    update(Snapshot).where(Snapshot.id == snapshot.id).values(retry_at=seconds_from_now(-1))
                )
    assert (row.status, row.stop_reason) == ("failed", "export_failed")
    with transaction() as session:
        told = [event["data"] for event in event_log.read(session, snapshot.id, 0) if event["type"] == "attempt_ended"]
    assert [(event["attempt"], event["reason"]) for event in told] == [(1, "export_failed"), (2, "export_failed")]


def test_a_final_fault_ends_the_job_at_once(snapshot):
    runner.work(raising(JobFailed("snapshot_damaged", "It is damaged.")), snapshot.id)
    row = read(Snapshot, snapshot.id)
    assert (row.status, row.stop_reason, row.error, row.attempt) == ("failed", "snapshot_damaged", "It is damaged.", 1)


def test_a_worker_that_ends_gives_the_job_back_and_the_attempt_does_not_count(snapshot):
    shutdown = threading.Event()

    def perform(job) -> None:
        shutdown.set()
        job.check()

    runner.work(replace(KIND, perform=perform), snapshot.id, shutdown=shutdown)
    row = read(Snapshot, snapshot.id)
    assert (row.status, row.attempt, row.lease_owner) == ("queued", 0, None)
    runner.work(KIND, snapshot.id, shutdown=shutdown)
    assert read(Snapshot, snapshot.id).status == "queued", "a worker that ends begins nothing"
    runner.work(KIND, snapshot.id)
    assert read(Snapshot, snapshot.id).status == "succeeded"


def test_a_second_worker_finds_nothing_to_claim(snapshot):
    def perform(job) -> None:
        runner.work(raising(AssertionError("claimed twice")), job.id)
        KIND.perform(job)

    runner.work(replace(KIND, perform=perform), snapshot.id)
    assert read(Snapshot, snapshot.id).status == "succeeded"


@pytest.fixture
def empty_queue(database):
    with transaction() as session:
        session.execute(text("DELETE FROM workers"))
        session.execute(text("UPDATE snapshots SET status = 'cancelled', stop_reason = 'cancelled'"))


def places(*rows) -> list[tuple]:
    with transaction() as session:
        found = queue_position.add_queue_positions(session, [session.get(Snapshot, row.id) for row in rows])
        return [(row.queue.position, row.queue.reason, row.queue.workers) for row in found]


def test_a_queued_job_says_why_it_waits_and_its_place(empty_queue, bench):
    first, second = order_snapshot(bench), order_snapshot(bench)
    assert places(first, second) == [(1, "no_worker", 0), (2, "no_worker", 0)]
    worker = Presence(["exports"], slots=1)
    worker.beat()
    worker.beat()
    assert places(first, second) == [(1, "next", 1), (2, "others_first", 1)]
    runner.work(raising(RuntimeError("broken")), first.id)
    assert places(first)[0][1:] == ("waits_for_retry", 1)
    # A job that waits for its next attempt holds up nobody.
    assert places(second) == [(1, "next", 1)]
    with transaction() as session:
        session.execute(text("UPDATE workers SET seen_at = seen_at - interval '1 minute'"))
    assert places(second) == [(1, "no_worker", 0)]
    worker.remove()


def test_a_job_that_is_worked_on_has_no_place(empty_queue, bench):
    row = order_snapshot(bench)
    bench.work(KIND, row)
    with transaction() as session:
        assert queue_position.add_queue_position(session, session.get(Snapshot, row.id)).queue is None
