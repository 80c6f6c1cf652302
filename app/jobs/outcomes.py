"""Records the outcome of an attempt in the job's row: the job ends, or it is queued again."""

import logging

from sqlalchemy.orm import Session

from app.jobs import event_log, queue
from app.jobs.kinds import Explanation, JobKind
from app.jobs.leases import release_lease, seconds_from_now
from app.jobs.retry import Decision, Outcome, decide

log = logging.getLogger(__name__)

CANCELLED = Explanation("cancelled", "")


def change_status(session: Session, row, to: str, stop_reason: str | None = None, error: str | None = None) -> None:
    """Change the status of a locked row, and write it to the job's log.

    Args:
        session: The transaction that has the row locked.
        row: The row of the job.
        to: The new status.
        stop_reason: Why the job has ended; a final status needs one.
        error: What was wrong, for people.
    """
    row.move(to, stop_reason, error)
    session.flush()
    event_log.emit_status(session, row)


def explain_lost_worker(attempt: int) -> Explanation:
    """Return the explanation of a job whose worker died or hung in attempt number `attempt`."""
    message = f"The worker of attempt {attempt} ended or hung before the job was done; see the log of the worker."
    return Explanation("worker_lost", message)


def record_outcome(session: Session, kind: JobKind, row, outcome: Outcome, why: Explanation) -> None:
    """End the lease of a row, which the caller has locked, and give it the status that follows from the outcome.

    A job whose cancel was requested is cancelled, whatever else ended its attempt. A job whose pause was requested is
    paused where it would be queued again.
    """
    if row.status == "cancelling":
        outcome, why = Outcome.CANCELLED, CANCELLED
    decision = decide(outcome, row.attempt, kind.max_attempts)
    release_lease(row)
    if decision.status == "queued":
        _queue_again(session, kind, row, decision, why)
        return
    discard_partial_results(session, kind, row)
    change_status(session, row, decision.status, why.stop_reason, why.message or None)


def _queue_again(session: Session, kind: JobKind, row, decision: Decision, why: Explanation) -> None:
    if not decision.attempt_counts:
        row.attempt -= 1
    row.retry_at = seconds_from_now(decision.delay_seconds) if decision.delay_seconds else None
    attempt = {"attempt": row.attempt, "reason": why.stop_reason, "message": why.message}
    event_log.emit(session, row, "attempt_ended", **attempt, retry_in_seconds=decision.delay_seconds)
    if row.status == "pausing":
        # The attempt ended before it came to the pause that was requested.
        row.retry_at = None
        change_status(session, row, "paused")
        return
    change_status(session, row, "queued")
    # A job that waits for its next attempt gets its wake-up from the sweeper; one sent now would find nothing to claim.
    if not decision.delay_seconds:
        queue.notify_after_commit(session, kind.task, row.id)


def discard_partial_results(session: Session, kind: JobKind, row) -> None:
    """Remove the partial rows and files of a job that has failed or was cancelled. The row is locked."""
    # Before the commit: if this process dies here, the job has not ended, and both are removed again later.
    kind.discard(session, row)
    discard_files(kind, row.id)


def discard_files(kind: JobKind, id: str) -> None:
    """Remove the partial files of a job. A storage error is logged, and the files stay."""
    try:
        kind.discard_files(id)
    except OSError:
        # The job ends all the same: a storage that can't be reached must not keep it from ending.
        log.exception("the partial files of %s could not be removed; remove them by hand", id)
