"""Queries over the rows that a run has generated, for the slices above."""

from collections.abc import Sequence

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, undefer

from app.tables.datasets import Record


def load_with_embeddings(session: Session, run_id: str) -> list[Record]:
    """Return the run's rows with their embeddings: accepted rows by their positions, then the others, oldest first."""
    query = select(Record).where(Record.run_id == run_id).options(undefer(Record.embedding))
    return list(session.scalars(query.order_by(Record.pool_position.asc().nulls_last(), Record.id)))


def select_counts_by_batch(run_ids: Sequence[str], reason: str) -> Select:
    """Return a query for (batch_id, rows): how many rows of each batch were rejected for this reason."""
    query = select(Record.batch_id, func.count().label("rows"))
    return query.where(Record.run_id.in_(run_ids), Record.reason == reason).group_by(Record.batch_id)


def count_task_types(session: Session, run_id: str) -> dict[str, int]:
    """Count the accepted rows of the run by task type."""
    task_type = Record.tags["task_type"].astext
    query = select(task_type, func.count()).where(
        Record.run_id == run_id, Record.pool_position.is_not(None), task_type.is_not(None)
    )
    return {name: count for name, count in session.execute(query.group_by(task_type))}


def count_outcomes_by_operation(session: Session, run_id: str) -> list[tuple[str | None, str, str | None, int]]:
    """Count the rows of the run. Returns (operation, status, reason, rows)."""
    columns = (Record.operation, Record.status, Record.reason)
    query = select(*columns, func.count()).where(Record.run_id == run_id).group_by(*columns)
    return [tuple(row) for row in session.execute(query)]


def count_equality_verdicts(session: Session, run_id: str) -> dict[str, tuple[int, int]]:
    """Count, by operation, the children that a judge compared with their parent, and those that it found equal."""
    verdict = Record.scores["judge.equal"].as_float()
    query = select(Record.operation, func.count(), func.sum(verdict)).where(
        Record.run_id == run_id, verdict.is_not(None), Record.operation.is_not(None)
    )
    return {row[0]: (row[1], int(row[2])) for row in session.execute(query.group_by(Record.operation))}


def sample_accepted(session: Session, run_id: str, max_rows: int) -> Sequence[Record]:
    """Return up to `max_rows` accepted rows of the run, the same rows every time."""
    # The order of md5(id) is random, and it is the same in every query without a stored seed.
    query = select(Record).where(Record.run_id == run_id, Record.pool_position.is_not(None))
    return session.scalars(query.order_by(func.md5(Record.id)).limit(max_rows)).all()
