"""Steers jobs from outside their worker: cancels them, and ends or recovers those whose worker does not react."""

import logging
from collections.abc import Callable
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.jobs import event_log
from app.jobs.kinds import JobKind
from app.jobs.leases import is_unclaimed, lock_first_unlocked, seconds_from_now
from app.jobs.outcomes import CANCELLED, change_status, explain_lost_worker, record_outcome
from app.jobs.retry import Outcome
from app.persistence.db import transaction

log = logging.getLogger(__name__)

# A worker reads its row every second, so that it had two occasions. With the sweeper's interval of two seconds the job
# still ends within the promised five.
CANCEL_GRACE_SECONDS = 2.5


def cancel(session: Session, kind: JobKind, id: str):
    """Request the cancel of a job and return its row.

    A queued job ends at once, and one that has ended is not changed. The caller has checked that the row exists.

    Args:
        session: The transaction of the request.
        kind: The kind of the job.
        id: The id of the job.
    """
    table = kind.table
    query = select(table).where(table.id == id).with_for_update(key_share=True)
    row = session.scalar(query.execution_options(populate_existing=True))
    if row.ended or row.status == "cancelling":
        return row
    if row.status == "queued":
        record_outcome(session, kind, row, Outcome.CANCELLED, CANCELLED)
    else:
        # The database's clock: the sweeper of another machine measures the grace period by it.
        row.cancel_requested_at = func.clock_timestamp()
        change_status(session, row, "cancelling")
    session.refresh(row)
    return row


def finish_cancelled(kind: JobKind) -> None:
    """End the jobs that are `cancelling` and whose worker died, or has not reacted within CANCEL_GRACE_SECONDS.

    The lease token is incremented first, so that a worker that is only late can write nothing any more.
    """
    table = kind.table
    overdue = table.cancel_requested_at < seconds_from_now(-CANCEL_GRACE_SECONDS)

    def revoke_lease(session: Session, row) -> None:
        row.lease_token += 1
        event_log.emit(session, row, "lease_taken_away", owner=row.lease_owner)
        record_outcome(session, kind, row, Outcome.CANCELLED, CANCELLED)

    _apply_to_each(kind, (table.status == "cancelling", or_(is_unclaimed(table), overdue)), revoke_lease)


def recover_lost(kind: JobKind) -> None:
    """Queue the running jobs again whose lease has run out, or fail those whose last attempt it was."""

    def recover(session: Session, row) -> None:
        record_outcome(session, kind, row, Outcome.WORKER_LOST, explain_lost_worker(row.attempt))

    _apply_to_each(kind, (kind.table.status == "running", is_unclaimed(kind.table)), recover)


def _apply_to_each(kind: JobKind, conditions: tuple, action: Callable[[Session, Any], None]) -> None:
    """Call the action on each row that meets the conditions, in a transaction of its own: a fault affects one row."""
    query = select(kind.table).where(*kind.rows, *conditions)
    with transaction() as session:
        ids = list(session.scalars(query.with_only_columns(kind.table.id)))
    for id in ids:
        try:
            with transaction() as session:
                # The conditions are checked again under the lock: a worker may have ended the job since.
                row = lock_first_unlocked(session, query.where(kind.table.id == id))
                if row is not None:
                    action(session, row)
        except OperationalError:
            # The database can't be reached: the rows after this one would fail in the same way.
            raise
        except Exception:
            log.exception("the sweeper could not change %s; it tries again at its next pass", id)
