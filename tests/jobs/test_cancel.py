"""A cancel of each of the seven kinds, at each place where it may meet the job: it ends, and leaves nothing behind."""

from dataclasses import replace

import pytest
from sqlalchemy import func, select, update

from app.jobs import event_log, steering
from app.jobs.kinds import JobKind
from app.persistence.db import transaction
from app.tables.datasets import Decision, Record
from tests.fakes import encoders, hash_encoder
from tests.jobs.orders import ORDERS, ROWS, Bench, Order, leftovers, order_import, read


@pytest.fixture(params=ORDERS)
def order(request) -> Order:
    return ORDERS[request.param]


def with_first(kind: JobKind, action) -> JobKind:
    """The kind, whose attempts do `action(job)` before their work."""

    def perform(job, *tools) -> None:
        action(job)
        kind.perform(job, *tools)

    return replace(kind, perform=perform)


def cancel(bench: Bench, order: Order, id: str):
    with transaction() as session:
        return order.cancel(session, bench, id)


def statuses(id: str) -> list[str]:
    with transaction() as session:
        return [event["data"]["status"] for event in event_log.read(session, id, 0) if event["type"] == "status"]


def check_cancelled(order: Order, row) -> None:
    ended = read(order.kind.table, row.id)
    assert (ended.status, ended.stop_reason, ended.lease_owner) == ("cancelled", "cancelled", None)
    assert statuses(row.id)[-1] == "cancelled"
    assert leftovers(row.id) == []
    with transaction() as session:
        assert session.scalar(select(func.count()).where(Decision.replaced_by == row.id)) == 0


def test_what_is_queued_ends_at_once(bench, order):
    row = order.make(bench)
    assert cancel(bench, order, row.id).status == "cancelled"
    check_cancelled(order, row)
    bench.work(order.kind, row)
    check_cancelled(order, row)


def test_what_is_worked_on_is_ended_by_its_worker(bench, order):
    row = order.make(bench)
    bench.work(with_first(order.kind, lambda job: cancel(bench, order, job.id)), row)
    check_cancelled(order, row)
    assert statuses(row.id) == ["queued", "running", "cancelling", "cancelled"]
    assert cancel(bench, order, row.id).status == "cancelled"


class CancelInTheMiddle:
    """A running job at whose n-th check the cancel is requested. The worker sees it when its heartbeat does."""

    CHECKS = {"fine-tune": 8, "scoring": 4}

    def __init__(self, job, request):
        self._job, self._request = job, request
        self._left = self.CHECKS.get(job.kind.name, 2)

    def __getattr__(self, name: str):
        return getattr(self._job, name)

    def check(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._request(self.id)
        self._job.check()


def test_what_was_half_stored_goes(bench, order):
    import_ = order_import(bench)
    bench.work(ORDERS["import"].kind, import_)
    row = order.make(bench)

    def perform(job, *tools) -> None:
        order.kind.perform(CancelInTheMiddle(job, lambda id: cancel(bench, order, id)), *tools)

    bench.work(replace(order.kind, perform=perform), row)
    check_cancelled(order, row)


def test_a_worker_that_does_not_answer_loses_the_job_and_cleans_up_when_it_wakes(bench, order):
    row = order.make(bench)

    def sleep_through_the_cancel(job) -> None:
        cancel(bench, order, job.id)
        steering.finish_cancelled(order.kind)
        assert read(order.kind.table, job.id).status == "cancelling"
        table, grace = order.kind.table, steering.seconds_from_now(-steering.CANCEL_GRACE_SECONDS - 1)
        with transaction() as session:
            session.execute(update(table).where(table.id == job.id).values(cancel_requested_at=grace))
        steering.finish_cancelled(order.kind)
        check_cancelled(order, row)

    bench.work(with_first(order.kind, sleep_through_the_cancel), row)
    check_cancelled(order, row)
    with transaction() as session:
        assert "lease_taken_away" in [event["type"] for event in event_log.read(session, row.id, 0)]


def test_what_has_succeeded_stays_as_it_is(bench):
    order = ORDERS["snapshot"]
    row = order.make(bench)
    bench.work(order.kind, row)
    assert cancel(bench, order, row.id).status == "succeeded"
    assert read(order.kind.table, row.id).files and leftovers(row.id) != []


def test_a_cancelled_import_keeps_the_chunks_that_were_admitted_and_counts_them(bench):
    order, calls = ORDERS["import"], []
    row = order_import(bench)

    def encode(texts):
        calls.append(len(texts))
        if len(calls) == 2:
            cancel(bench, order, row.id)
        return hash_encoder(texts)

    bench.pools = type(bench.pools)(encoders(encode))
    bench.work(order.kind, row)
    check_cancelled(order, row)
    ended = read(order.kind.table, row.id)
    with transaction() as session:
        stored = session.scalar(select(func.count()).where(Record.import_id == row.id))
    assert 0 < ended.done_rows < ROWS and ended.accepted + ended.rejected == stored == ended.done_rows
