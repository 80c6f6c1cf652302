"""All SQL of snapshots."""

from collections.abc import Iterator, Sequence

from sqlalchemy import Row, Select, func, select
from sqlalchemy.orm import Session

from app.errors import not_found
from app.tables.datasets import Dataset, Preference, Record
from app.tables.runs import Run
from app.tables.snapshots import Snapshot

ROWS_PER_FETCH = 500
EXPORTED_COLUMNS = (
    *(Record.id, Record.instruction, Record.input, Record.output, Record.messages, Record.reasoning),
    Record.thought,
    *(Record.origin, Record.method, Record.simulated),
)


def load_snapshot(session: Session, project_id: str, id: str) -> Snapshot:
    """The project's snapshot with this id. Raises a 404 where there is none."""
    row = session.scalar(select(Snapshot).where(Snapshot.id == id, Snapshot.project_id == project_id))
    if row is None:
        raise not_found("snapshot", id)
    return row


def list_snapshots(
    session: Session, project_id: str, dataset_id: str | None, limit: int, after: str | None
) -> Sequence[Snapshot]:
    """Newest first, those with an id below `after`. One more than `limit` says that another page follows."""
    query = select(Snapshot).where(Snapshot.project_id == project_id).order_by(Snapshot.id.desc()).limit(limit + 1)
    if dataset_id:
        query = query.where(Snapshot.dataset_id == dataset_id)
    return session.scalars(query.where(Snapshot.id < after) if after else query).all()


def lock_dataset(session: Session, project_id: str, id: str) -> Dataset | None:
    """The dataset, or None. Nobody can delete it until this transaction ends."""
    # A key share lock: it stops a deletion, but not the runs that admit rows to the dataset.
    query = select(Dataset).where(Dataset.id == id, Dataset.project_id == project_id)
    return session.scalar(query.with_for_update(read=True, key_share=True))


def freeze_pool(session: Session) -> None:
    """Let all queries of this transaction see one state of the pool. Call it before the first query."""
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})


def run_exists(session: Session, dataset_id: str, run_id: str) -> bool:
    return session.scalar(select(Run.id).where(Run.id == run_id, Run.dataset_id == dataset_id)) is not None


def _select_rows(dataset_id: str, spec: dict, through_pool_position: int) -> Select:
    """The query for the rows of a snapshot, before its mixture and its selection."""
    # `through_pool_position` leaves out the rows that the pool has received since the snapshot was ordered. A row
    # without an output, as many seeds are, can't be trained on.
    query = select(Record).where(
        Record.dataset_id == dataset_id, Record.pool_position <= through_pool_position, Record.output != ""
    )
    if not spec["include_seeds"]:
        query = query.where(Record.origin != "seed")
    if spec["run_id"]:
        query = query.where(Record.run_id == spec["run_id"])
    for name, min_score in spec.get("minimum_scores", {}).items():
        query = query.where(Record.scores[name].as_float() >= min_score)
    return query


def count_rows(session: Session, dataset_id: str, spec: dict, through_pool_position: int) -> int:
    return session.scalar(_select_rows(dataset_id, spec, through_pool_position).with_only_columns(func.count()))


def stream_rows(session: Session, snapshot: Snapshot) -> Iterator[Row]:
    """The rows in the order of the pool, read by a server-side cursor."""
    # Plain columns, not Record objects: the session would hold every object until the transaction ends.
    query = _select_rows(snapshot.dataset_id, snapshot.spec, snapshot.through_pool_position).with_only_columns(
        *EXPORTED_COLUMNS
    )
    yield from session.execute(query.order_by(Record.pool_position).execution_options(yield_per=ROWS_PER_FETCH))


def stream_instructions(session: Session, snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """(id, instruction) of each row in the order of the pool."""
    query = _select_rows(snapshot.dataset_id, snapshot.spec, snapshot.through_pool_position)
    query = query.with_only_columns(Record.id, Record.instruction).order_by(Record.pool_position)
    for row in session.execute(query.execution_options(yield_per=10 * ROWS_PER_FETCH)):
        yield row.id, row.instruction


def load_methods(session: Session, snapshot: Snapshot) -> list[tuple[str, str]]:
    """(id, method) of each row in the order of the pool; the origin stands for the method where a row has none."""
    query = _select_rows(snapshot.dataset_id, snapshot.spec, snapshot.through_pool_position)
    query = query.with_only_columns(Record.id, func.coalesce(Record.method, Record.origin)).order_by(
        Record.pool_position
    )
    return [(id, method) for id, method in session.execute(query)]


def load_scores(session: Session, snapshot: Snapshot, names: Sequence[str]) -> list[Row]:
    """(id, id of the group's representative, a score or None for each name) in the order of the pool."""
    query = _select_rows(snapshot.dataset_id, snapshot.spec, snapshot.through_pool_position)
    score_columns = [Record.scores[name].as_float() for name in names]
    return session.execute(
        query.with_only_columns(Record.id, Record.group_id, *score_columns).order_by(Record.pool_position)
    ).all()


def count_scored_rows(
    session: Session, dataset_id: str, spec: dict, through_pool_position: int, names: Sequence[str]
) -> int:
    """The number of rows that have all the named scores."""
    query = _select_rows(dataset_id, spec, through_pool_position).with_only_columns(func.count())
    return session.scalar(query.where(*(Record.scores[name].as_float().is_not(None) for name in names)))


def load_embeddings(session: Session, record_ids: Sequence[str]) -> dict[str, bytes]:
    """The float32 vectors of those records that have one, by record."""
    query = select(Record.id, Record.embedding).where(Record.id.in_(record_ids), Record.embedding.is_not(None))
    return {row.id: row.embedding for row in session.execute(query)}


def load_pairs(session: Session, record_ids: Sequence[str]) -> dict[str, list[Preference]]:
    """Preference pairs by the record that they belong to, oldest first."""
    pairs: dict[str, list[Preference]] = {}
    query = select(Preference).where(Preference.record_id.in_(record_ids)).order_by(Preference.id)
    for pair in session.scalars(query):
        pairs.setdefault(pair.record_id, []).append(pair)
    return pairs


def count_pairs(session: Session, dataset_id: str, spec: dict, through_pool_position: int) -> int:
    record_ids = _select_rows(dataset_id, spec, through_pool_position).with_only_columns(Record.id)
    return session.scalar(select(func.count()).where(Preference.record_id.in_(record_ids)))
