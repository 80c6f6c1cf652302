"""Queries over the accepted rows that a model can be trained on, for the slices that export or score them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Row, Select, func, select
from sqlalchemy.orm import Session

from app.tables.datasets import Preference, Record

# A dataset may not fit in memory, so rows are fetched in parts.
ROWS_PER_FETCH = 500
EXPORTED_COLUMNS = (
    *(Record.id, Record.instruction, Record.input, Record.output, Record.messages, Record.reasoning),
    *(Record.origin, Record.method, Record.simulated),
)


@dataclass(frozen=True)
class RowFilter:
    """Which accepted rows of a dataset. Rows without an output, as many seeds are, are left out: they teach nothing.

    Attributes:
        run_id: only rows that this run has brought in.
        minimum_scores: least values of scores, by name.
        through_pool_position: rows that the pool has received later are left out.
    """

    dataset_id: str
    run_id: str | None = None
    include_seeds: bool = True
    minimum_scores: Mapping[str, float] = field(default_factory=dict)
    through_pool_position: int | None = None


def _select_rows(rows: RowFilter) -> Select:
    query = select(Record).where(
        Record.dataset_id == rows.dataset_id, Record.pool_position.is_not(None), Record.output != ""
    )
    if rows.through_pool_position is not None:
        query = query.where(Record.pool_position <= rows.through_pool_position)
    if not rows.include_seeds:
        query = query.where(Record.origin != "seed")
    if rows.run_id:
        query = query.where(Record.run_id == rows.run_id)
    for name, min_score in rows.minimum_scores.items():
        query = query.where(Record.scores[name].as_float() >= min_score)
    return query


def count_rows(session: Session, rows: RowFilter) -> int:
    """Return the number of rows that match the filter."""
    return session.scalar(_select_rows(rows).with_only_columns(func.count()))


def stream_rows(session: Session, rows: RowFilter) -> Iterator[Row]:
    """Yield the rows in the order of the pool, read by a server-side cursor."""
    # Plain columns, not Record objects: the session would hold every object until the transaction ends.
    query = _select_rows(rows).with_only_columns(*EXPORTED_COLUMNS).order_by(Record.pool_position)
    yield from session.execute(query.execution_options(yield_per=ROWS_PER_FETCH))


def stream_instructions(session: Session, rows: RowFilter) -> Iterator[tuple[str, str]]:
    """Yield (id, instruction) of each row in the order of the pool."""
    query = _select_rows(rows).with_only_columns(Record.id, Record.instruction).order_by(Record.pool_position)
    for row in session.execute(query.execution_options(yield_per=10 * ROWS_PER_FETCH)):
        yield row.id, row.instruction


def load_methods(session: Session, rows: RowFilter) -> list[tuple[str, str]]:
    """Return (id, method) of each row in the order of the pool; the origin stands for a missing method."""
    query = _select_rows(rows).with_only_columns(Record.id, func.coalesce(Record.method, Record.origin))
    return [(id, method) for id, method in session.execute(query.order_by(Record.pool_position))]


def load_scores(session: Session, rows: RowFilter, names: Sequence[str]) -> list[Row]:
    """Return (id, id of the group's representative, a score or None for each name) in the order of the pool."""
    score_columns = [Record.scores[name].as_float() for name in names]
    query = _select_rows(rows).with_only_columns(Record.id, Record.group_id, *score_columns)
    return session.execute(query.order_by(Record.pool_position)).all()


def count_scored_rows(session: Session, rows: RowFilter, names: Sequence[str]) -> int:
    """Return the number of rows that have all the named scores."""
    query = _select_rows(rows).with_only_columns(func.count())
    return session.scalar(query.where(*(Record.scores[name].as_float().is_not(None) for name in names)))


def load_pairs(session: Session, record_ids: Sequence[str]) -> dict[str, list[Preference]]:
    """Return the preference pairs, oldest first, by the id of their record."""
    pairs: dict[str, list[Preference]] = {}
    query = select(Preference).where(Preference.record_id.in_(record_ids)).order_by(Preference.id)
    for pair in session.scalars(query):
        pairs.setdefault(pair.record_id, []).append(pair)
    return pairs


def count_pairs(session: Session, rows: RowFilter) -> int:
    """Return the number of preference pairs of the rows that match the filter."""
    record_ids = _select_rows(rows).with_only_columns(Record.id)
    return session.scalar(select(func.count()).where(Preference.record_id.in_(record_ids)))
