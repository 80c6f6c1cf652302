"""Remote batches of a run in batch mode: its calls go out together, and its batches are tried again with the answers.

A batch of the run, the unit of work, registers its calls and waits. When all batches wait, the registered calls become
one remote batch for each teacher. Its answers are booked like those of single calls. Then the batches are tried again:
they find the answers that were paid for, and register their next calls (docs/adr/0013).
"""

import logging
import time
from collections.abc import Callable, Sequence
from decimal import Decimal

from sqlalchemy.orm import Session

from app import config
from app.calls import ledger, remote_batches
from app.calls import store as calls
from app.calls.ledger_entries import Entry, PaidReply, PostAnswer, PostFailure
from app.jobs import event_log, queue
from app.jobs.leases import Claim, hold_lease, lock_claimed_row
from app.persistence.db import transaction
from app.providers.remote_batches import Line, RemoteBatches
from app.runs import service, store
from app.synth.prices import Prices
from app.synth.teacher_errors import TeacherRefused, TryAgain
from app.synth.types import Reply
from app.tables.runs import Run

log = logging.getLogger(__name__)

# OpenAI allows 50,000 lines and 200 MB in a remote batch.
MAX_REQUESTS = 10_000
# A transaction locks the account, and single calls of other units wait for it.
ENTRIES_PER_TRANSACTION = 500
# A line that fails so often costs its row, so that one bad request can't keep a run open.
MAX_TRIES = 5
# The sweeper notifies again after the visit, so a worker is not occupied by a remote batch that takes hours.
POLL_SECONDS, VISIT_SECONDS = 1.0, 20.0

Connect = Callable[[str], RemoteBatches]


def work(run_id: str, connect: Connect) -> None:
    """Send registered calls, poll the open remote batches, and read their answers, for some seconds.

    Args:
        run_id: the run, which may have ended or been deleted.
        connect: opens the client for the remote batches of a teacher, by the teacher's name.
    """
    until = time.monotonic() + VISIT_SECONDS
    while True:
        _create_batches(run_id)
        for id in _open_batch_ids(run_id):
            _send_or_read(run_id, id, connect)
        if not _open_batch_ids(run_id) or time.monotonic() > until:
            return
        time.sleep(POLL_SECONDS)


def _create_batches(run_id: str) -> None:
    """Create remote batches of the registered calls, once all batches of the run wait for answers."""
    with transaction() as session:
        run = store.locked_run(session, run_id)
        if (
            run is None
            or run.status != "running"
            or run.pending_stop_reason is not None
            or store.count_pending_or_leased_batches(session, run_id)
        ):
            return
        for batch in remote_batches.create_batches(session, run.account_id, MAX_REQUESTS):
            event_log.emit(session, run, "remote_batch", id=batch.id, requests=batch.requests, status="preparing")


def _open_batch_ids(run_id: str) -> list[str]:
    with transaction() as session:
        run = session.get(Run, run_id)
        return [] if run is None else list(remote_batches.list_open_ids(session, run.account_id))


def _send_or_read(run_id: str, id: str, connect: Connect) -> None:
    claim = remote_batches.claim_batch(id)
    if claim is None:
        return
    with hold_lease(claim):
        try:
            with transaction() as session:
                row = remote_batches.load_batch(session, id)
                run = session.get(Run, run_id)
            with connect(row.teacher) as batches:
                if row.status == "preparing":
                    _submit(claim, run, batches)
                else:
                    _fetch_answers(claim, row.remote_id, row.teacher, run, batches)
        except TryAgain as error:
            log.warning("%s: %s; it is tried again at the next poll", id, error)
        except TeacherRefused as error:
            with transaction() as session:
                service.fail(session, run_id, error.stop_reason, str(error))
            _end(claim, str(error))


def _submit(claim: Claim, run: Run, batches: RemoteBatches) -> None:
    """Send the remote batch, unless the teacher has one with its id already: that would be paid for twice."""
    if run.ended:
        # A worker may have sent it, and died before it stored that (docs/adr/0013).
        remote_id = batches.find(claim.id)
        if remote_id is None:
            _drop(claim, run.account_id, "the run ended before the remote batch was sent")
            return
    else:
        with transaction() as session:
            requests = [(call.key, call.request) for call in calls.unanswered_calls_of_remote(session, claim.id)]
        remote_id = batches.submit(claim.id, requests)
    with transaction() as session:
        row = lock_claimed_row(session, claim)
        row.status, row.remote_id = "submitted", remote_id
        for call in calls.unanswered_calls_of_remote(session, claim.id):
            if call.status == "waiting":
                call.status = "sent"
        event_log.emit(session, run, "remote_batch", id=row.id, requests=row.requests, status="submitted")


def _drop(claim: Claim, account_id: str, message: str) -> None:
    """End a remote batch that the teacher never had: its calls cost nothing."""
    with transaction() as session:
        remote_batches.end_batch(lock_claimed_row(session, claim), message)
        ledger.post_in(session, account_id, _unserved(session, claim.id))


def _unserved(session: Session, id: str) -> list[Entry]:
    """The ledger entries of calls without an answer: the teacher has not served them, and they cost nothing."""
    return [PostFailure(call.key, call.tries, unknown=False) for call in calls.unanswered_calls_of_remote(session, id)]


def _fetch_answers(claim: Claim, remote_id: str, teacher: str, run: Run, batches: RemoteBatches) -> None:
    remote = batches.look(remote_id)
    if not remote.over:
        if run.ended or run.status == "cancelling" or run.pending_stop_reason is not None:
            batches.cancel(remote_id)
        return
    with transaction() as session:
        requests = {call.key: call.request for call in calls.unanswered_calls_of_remote(session, claim.id)}
    share = config.teachers()[teacher].batch_price_share
    prices = batches.endpoint.prices.times(share)
    answered = failed = 0
    for file in remote.files:
        lines = list(batches.answers(file, requests))
        for start in range(0, len(lines), ENTRIES_PER_TRANSACTION):
            chunk = lines[start : start + ENTRIES_PER_TRANSACTION]
            _book(claim, run.account_id, chunk, prices)
            answered += sum(line.served is not None for line in chunk)
            failed += sum(line.served is None for line in chunk)
    if remote.failed and not answered:
        with transaction() as session:
            message = f"the teacher refused the remote batch: {remote.words or 'it gave no reason'}"
            service.fail(session, run.id, "request_refused", message)
    _finish(claim, run.id, answered, failed, remote.words)


def _book(claim: Claim, account_id: str, lines: Sequence[Line], prices: Prices) -> None:
    with transaction() as session:
        # A worker that has lost the remote batch to another one must not book its answers.
        lock_claimed_row(session, claim)
        tries = calls.load_tries(session, [line.key for line in lines])
        entries = [_entry(line, tries[line.key], prices) for line in lines if line.key in tries]
        ledger.post_in(session, account_id, entries)


def _entry(line: Line, tries: int, prices: Prices) -> Entry:
    if line.served is not None:
        served = line.served
        usage = served.reply.usage
        paid = PaidReply(
            served.reply, served.model, served.usage_estimated, prices.cost(usage), prices.thought_cost(usage)
        )
        return PostAnswer(line.key, tries, paid)
    if line.refused or tries >= MAX_TRIES:
        # The entry is a reply that no method can read, so the call costs its row and no other row.
        reply = Reply(line.words, finish_reason="unreadable")
        return PostAnswer(line.key, tries, PaidReply(reply, "", False, Decimal(0)))
    return PostFailure(line.key, tries, unknown=False)


def _finish(claim: Claim, run_id: str, answered: int, failed: int, message: str) -> None:
    """End the remote batch, and make the batches pending that waited for its answers.

    Calls without an answer were not served; they go out again in the next remote batch.
    """
    with transaction() as session:
        run = store.locked_run(session, run_id)
        row = lock_claimed_row(session, claim)
        unserved = _unserved(session, row.id)
        ledger.post_in(session, run.account_id, unserved)
        remote_batches.end_batch(row, message, answered, failed + len(unserved))
        event_log.emit(session, run, "remote_batch", id=row.id, answered=answered, failed=row.failed, status="ended")
        store.requeue_answered_batches(session, run.id)
        service.finalize(session, run)
        if not run.ended:
            queue.notify_after_commit(session, queue.RUN, run.id)


def _end(claim: Claim, message: str) -> None:
    with transaction() as session:
        remote_batches.end_batch(lock_claimed_row(session, claim), message)


def list_waiting(session: Session) -> list[str]:
    """Return the ids of runs with calls that wait to be sent, or with open remote batches."""
    return store.list_runs_with_remote_work(session)
