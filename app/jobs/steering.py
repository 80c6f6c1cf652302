"""What is done to jobs from outside: cancel, and what the sweeper does for jobs whose worker does not answer."""

import logging
from collections.abc import Callable
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.jobs import event_log
from app.jobs.kinds import JobKind
from app.jobs.leases import free, in_seconds, lock_free
from app.jobs.outcomes import CANCELLED, move, record, worker_lost
from app.jobs.retry import Outcome
from app.persistence.db import transaction

log = logging.getLogger(__name__)

# A worker looks at its row every second. One that has not answered by then loses the row.
CANCEL_GRACE_SECONDS = 2.5


def cancel(session: Session, kind: JobKind, id: str):
    """Request the end of a job; the row. What nobody works on ends at once, what has ended stays as it is.

    The caller has checked that the row is there.
    """
    table = kind.table
    query = select(table).where(table.id == id).with_for_update(key_share=True)
    row = session.scalar(query.execution_options(populate_existing=True))
    if row.ended or row.status == "cancelling":
        return row
    if row.status == "queued":
        record(session, kind, row, Outcome.CANCELLED, CANCELLED)
    else:
        row.cancel_requested_at = func.clock_timestamp()
        move(session, row, "cancelling")
    session.refresh(row)
    return row


def finish_cancelled(kind: JobKind) -> None:
    """End jobs that are cancelling and whose worker is gone, or has not answered in time.

    The lease token is taken away first: whatever a late worker still does, it can write nothing.
    """
    table = kind.table
    overdue = table.cancel_requested_at < in_seconds(-CANCEL_GRACE_SECONDS)

    def take_away(session: Session, row) -> None:
        row.lease_token += 1
        event_log.emit(session, row, "lease_taken_away", owner=row.lease_owner)
        record(session, kind, row, Outcome.CANCELLED, CANCELLED)

    _each(kind, (table.status == "cancelling", or_(free(table), overdue)), take_away)


def recover_lost(kind: JobKind) -> None:
    """Queue again what a lost worker held, or end it after its last attempt."""

    def recover(session: Session, row) -> None:
        record(session, kind, row, Outcome.WORKER_LOST, worker_lost(row.attempt))

    _each(kind, (kind.table.status == "running", free(kind.table)), recover)


def _each(kind: JobKind, conditions: tuple, action: Callable[[Session, Any], None]) -> None:
    """Act on each row that meets the conditions, in a transaction of its own: one that fails holds up no other."""
    query = select(kind.table).where(*kind.rows, *conditions)
    with transaction() as session:
        ids = list(session.scalars(query.with_only_columns(kind.table.id)))
    for id in ids:
        try:
            with transaction() as session:
                row = lock_free(session, query.where(kind.table.id == id))
                if row is not None:
                    action(session, row)
        except OperationalError:
            raise
        except Exception:
            log.exception("%s could not be brought on", id)
