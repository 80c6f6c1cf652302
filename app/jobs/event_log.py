"""The log of a job: written beside its row, in the transaction that changes the row."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.tables.jobs import Event

PAGE = 500


def emit(session: Session, subject, type: str, **data) -> None:
    """Write one event. The caller holds the subject's row locked, so that `seq` is the order of commits."""
    session.add(Event(subject_id=subject.id, type=type, data=data))


def emit_status(session: Session, job) -> None:
    emit(session, job, "status", status=job.status, stop_reason=job.stop_reason, error=job.error)


def read(session: Session, subject_id: str, after: int, limit: int = PAGE) -> list[dict]:
    """Events with a `seq` above `after`, oldest first."""
    rows = session.scalars(
        select(Event).where(Event.subject_id == subject_id, Event.seq > after).order_by(Event.seq).limit(limit)
    )
    return [{"seq": row.seq, "type": row.type, "at": row.created_at.isoformat(), "data": row.data} for row in rows]
