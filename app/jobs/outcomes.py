"""How a job's row follows the outcome of an attempt: ended with its leftovers taken back, or queued again."""

import logging

from sqlalchemy.orm import Session

from app.jobs import event_log, queue
from app.jobs.kinds import Explanation, JobKind
from app.jobs.leases import in_seconds, release
from app.jobs.retry import Outcome, decide

log = logging.getLogger(__name__)

CANCELLED = Explanation("cancelled", "")


def move(session: Session, row, to: str, stop_reason: str | None = None, error: str | None = None) -> None:
    """Change the state of a locked row, and write it to the job's log."""
    row.move(to, stop_reason, error)
    session.flush()
    event_log.emit_status(session, row)


def worker_lost(attempt: int) -> Explanation:
    return Explanation("worker_lost", f"{attempt} workers were lost at it; see their logs.")


def record(session: Session, kind: JobKind, row, outcome: Outcome, why: Explanation) -> None:
    """Give the row, which the caller has locked, the state that follows. The lease ends.

    A job whose cancel was requested is cancelled, whatever else ended its attempt; one whose pause was requested is
    paused where it would be queued again.
    """
    if row.status == "cancelling":
        outcome, why = Outcome.CANCELLED, CANCELLED
    decision = decide(outcome, row.attempt, kind.max_attempts)
    release(row)
    if decision.status == "queued":
        if not decision.attempt_counts:
            row.attempt -= 1
        row.retry_at = in_seconds(decision.delay_seconds) if decision.delay_seconds else None
        explanation = {"attempt": row.attempt, "reason": why.stop_reason, "message": why.message}
        event_log.emit(session, row, "attempt_ended", **explanation, retry_in_seconds=decision.delay_seconds)
        if row.status == "pausing":
            # The attempt ended before it came to the pause that was requested.
            row.retry_at = None
            move(session, row, "paused")
            return
        move(session, row, "queued")
        if not decision.delay_seconds:
            queue.notify_after_commit(session, kind.task, row.id)
        return
    take_back(session, kind, row)
    move(session, row, decision.status, why.stop_reason, why.message or None)


def take_back(session: Session, kind: JobKind, row) -> None:
    """Remove what the job has half stored. Before the commit: should this process die, it is done again."""
    kind.discard(session, row)
    discard_files(kind, row.id)


def discard_files(kind: JobKind, id: str) -> None:
    try:
        kind.discard_files(id)
    except OSError:
        # The job ends all the same: a storage that is away must not hold it up.
        log.exception("files of %s could not be removed", id)
