"""One job of a worker from claim to end, for jobs that are done in one go: who holds it, and what becomes of faults."""

import logging
from collections.abc import Callable

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db import transaction
from app.jobs import event_log
from app.jobs.leases import Claim, Heartbeat, LeaseLost, claim, fenced, free, heartbeat, release

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 5


class CannotGoOn(Exception):
    """Trying again would change nothing. `reason` is the job's stop_reason."""

    def __init__(self, reason: str, words: str):
        super().__init__(words)
        self.reason = reason


def work(table: type, id: str, task: Callable[[Claim, Heartbeat], None], failed: str) -> None:
    """Do the task under a lease, if the row is free. `task` ends the row itself, by `succeed`.

    What it raises gives the row back for another try; after five tries it has failed, with the reason `failed`.
    """
    taken = _claim(table, id)
    if taken is None:
        return
    with heartbeat(taken) as beat:
        try:
            task(taken, beat)
        except LeaseLost:
            log.warning("%s has another owner now; this worker lets go", id)
        except CannotGoOn as error:
            _fail(taken, error.reason, str(error), at_once=True)
        except Exception as error:
            log.exception("%s failed", id)
            _fail(taken, failed, f"{type(error).__name__}: {error}", at_once=False)


def succeed(session: Session, row) -> None:
    """End a row that the caller has fenced."""
    row.move("succeeded", "completed")
    release(row)
    event_log.emit_status(session, row)


def waiting(session: Session, table: type) -> list[str]:
    """Ids of rows with work that nobody holds."""
    query = select(table.id).where(table.status.in_(("queued", "running")), free(table))
    return list(session.scalars(query))


def _claim(table: type, id: str) -> Claim | None:
    with transaction() as session:
        query = select(table).where(table.id == id, table.status.in_(("queued", "running")), free(table))
        row = session.scalar(query.with_for_update(skip_locked=True))
        if row is None:
            return None
        if row.attempt >= MOST_ATTEMPTS:
            release(row)
            row.move("failed", "worker_lost", f"{row.attempt} workers were lost at it; see their logs.")
            event_log.emit_status(session, row)
            return None
        if row.status == "queued":
            row.move("running")
            event_log.emit_status(session, row)
        return claim(session, row)


def _fail(taken: Claim, reason: str, words: str, at_once: bool) -> None:
    try:
        with transaction() as session:
            row = fenced(session, taken)
            release(row)
            if at_once or taken.attempt >= MOST_ATTEMPTS:
                row.move("failed", reason, words)
                event_log.emit_status(session, row)
    except LeaseLost:
        log.warning("%s has another owner now; this worker lets go", taken.id)
