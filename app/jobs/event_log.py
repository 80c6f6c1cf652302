"""The log of a job: written beside its row, in the transaction that changes the row."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.tables.jobs import Event

# Events of one query of a stream. A longer log is read in several queries.
PAGE = 500


def emit(session: Session, subject, type: str, **data) -> None:
    """Write one event.

    Args:
        session: The transaction in which the caller holds the subject's row locked, so that the order of `seq` is the
            order of commits, and a reader that has seen one event misses none before it.
        subject: The row of the job.
        type: The type of the event, for example `status` or `progress`.
        **data: The values of the event, as JSON.
    """
    session.add(Event(subject_id=subject.id, type=type, data=data))


def emit_status(session: Session, job) -> None:
    """Write the job's status, stop reason and error to its log. The row is locked."""
    emit(session, job, "status", status=job.status, stop_reason=job.stop_reason, error=job.error)


def read(session: Session, subject_id: str, after: int, limit: int = PAGE) -> list[dict]:
    """Return up to `limit` events of the job with a `seq` above `after`, oldest first."""
    rows = session.scalars(
        select(Event).where(Event.subject_id == subject_id, Event.seq > after).order_by(Event.seq).limit(limit)
    )
    return [{"seq": row.seq, "type": row.type, "at": row.created_at.isoformat(), "data": row.data} for row in rows]
