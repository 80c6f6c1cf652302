"""All SQL of paid calls."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.tables.runs import Completion, Run


def locked_run(session: Session, id: str) -> Run | None:
    """The run as it is now, held until this transaction ends. Take it before its batches and completions."""
    query = select(Run).where(Run.id == id).with_for_update(key_share=True)
    return session.scalar(query.execution_options(populate_existing=True))


def completions_locked(session: Session, keys: Sequence[str]) -> dict[str, Completion]:
    query = select(Completion).where(Completion.key.in_(keys)).order_by(Completion.key).with_for_update()
    return {row.key: row for row in session.scalars(query.execution_options(populate_existing=True))}


def open_completions(session: Session, run_id: str) -> Sequence[Completion]:
    """Those that hold a reservation."""
    query = select(Completion).where(Completion.run_id == run_id, Completion.status.in_(("waiting", "sent")))
    return session.scalars(query.with_for_update()).all()
