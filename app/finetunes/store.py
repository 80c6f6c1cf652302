"""All SQL of fine-tunes and their metrics."""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.errors import not_found
from app.tables.finetunes import FineTune, Metric


def fine_tune(session: Session, project_id: str, id: str) -> FineTune:
    """Return a fine-tune of the project. Raises AppError (404) if there is none."""
    row = session.scalar(select(FineTune).where(FineTune.id == id, FineTune.project_id == project_id))
    if row is None:
        raise not_found("fine-tune", id)
    return row


def fine_tunes(
    session: Session, project_id: str, snapshot_id: str | None, limit: int, after: str | None
) -> Sequence[FineTune]:
    """Return fine-tunes of the project, newest first: `limit` and one more if there is a next page.

    `after` is the id of the last fine-tune of the page before.
    """
    # Ids begin with the time of creation, so their order is that of creation.
    query = select(FineTune).where(FineTune.project_id == project_id).order_by(FineTune.id.desc()).limit(limit + 1)
    if snapshot_id:
        query = query.where(FineTune.snapshot_id == snapshot_id)
    return session.scalars(query.where(FineTune.id < after) if after else query).all()


def metrics(session: Session, id: str, limit: int, after: int) -> Sequence[Metric]:
    """Return the metrics after the id `after`, oldest first: `limit` and one more if there is a next page."""
    query = select(Metric).where(Metric.finetune_id == id, Metric.id > after).order_by(Metric.id)
    return session.scalars(query.limit(limit + 1)).all()


def delete_metrics(session: Session, id: str) -> None:
    """Delete all metrics of a fine-tune, because a new attempt starts from the beginning."""
    session.execute(delete(Metric).where(Metric.finetune_id == id))
