"""All SQL of snapshots."""

from collections.abc import Iterator, Sequence

from sqlalchemy import Row, Select, func, select
from sqlalchemy.orm import Session

from app.errors import not_found
from app.tables.datasets import Dataset, Preference, Record
from app.tables.runs import Run
from app.tables.snapshots import Snapshot

ROWS_AT_ONCE = 500
EXPORTED = (
    *(Record.id, Record.instruction, Record.input, Record.output, Record.messages, Record.reasoning),
    *(Record.origin, Record.method, Record.simulated),
)


def snapshot(session: Session, project_id: str, id: str) -> Snapshot:
    row = session.scalar(select(Snapshot).where(Snapshot.id == id, Snapshot.project_id == project_id))
    if row is None:
        raise not_found("snapshot", id)
    return row


def snapshots(
    session: Session, project_id: str, dataset_id: str | None, limit: int, after: str | None
) -> Sequence[Snapshot]:
    query = select(Snapshot).where(Snapshot.project_id == project_id).order_by(Snapshot.id.desc()).limit(limit + 1)
    if dataset_id:
        query = query.where(Snapshot.dataset_id == dataset_id)
    return session.scalars(query.where(Snapshot.id < after) if after else query).all()


def dataset_of(session: Session, project_id: str, id: str) -> Dataset | None:
    """Kept from being deleted until this transaction ends; admission goes on."""
    query = select(Dataset).where(Dataset.id == id, Dataset.project_id == project_id)
    return session.scalar(query.with_for_update(read=True, key_share=True))


def freeze(session: Session) -> None:
    """All queries of this transaction see one state of the pool. Call it before the first."""
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})


def has_run(session: Session, dataset_id: str, run_id: str) -> bool:
    return session.scalar(select(Run.id).where(Run.id == run_id, Run.dataset_id == dataset_id)) is not None


def _chosen(dataset_id: str, spec: dict, through_seq: int) -> Select:
    """The rows of a snapshot in the order of the pool. A seed without an output is no training row."""
    query = select(Record).where(Record.dataset_id == dataset_id, Record.seq <= through_seq, Record.output != "")
    if not spec["include_seeds"]:
        query = query.where(Record.origin != "seed")
    if spec["run_id"]:
        query = query.where(Record.run_id == spec["run_id"])
    for name, least in spec.get("minimum_scores", {}).items():
        query = query.where(Record.scores[name].as_float() >= least)
    return query


def count_rows(session: Session, dataset_id: str, spec: dict, through_seq: int) -> int:
    return session.scalar(_chosen(dataset_id, spec, through_seq).with_only_columns(func.count()))


def rows(session: Session, snapshot: Snapshot) -> Iterator[Row]:
    """Streamed by a server-side cursor, as plain rows that no session keeps."""
    query = _chosen(snapshot.dataset_id, snapshot.spec, snapshot.through_seq).with_only_columns(*EXPORTED)
    yield from session.execute(query.order_by(Record.seq).execution_options(yield_per=ROWS_AT_ONCE))


def instructions(session: Session, snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """(id, instruction)."""
    query = _chosen(snapshot.dataset_id, snapshot.spec, snapshot.through_seq)
    query = query.with_only_columns(Record.id, Record.instruction).order_by(Record.seq)
    for row in session.execute(query.execution_options(yield_per=10 * ROWS_AT_ONCE)):
        yield row.id, row.instruction


def groups(session: Session, snapshot: Snapshot) -> list[tuple[str, str]]:
    """(id, method or origin) in the order of the pool."""
    query = _chosen(snapshot.dataset_id, snapshot.spec, snapshot.through_seq)
    group = func.coalesce(Record.method, Record.origin)
    return [(id, name) for id, name in session.execute(query.with_only_columns(Record.id, group).order_by(Record.seq))]


def scores(session: Session, snapshot: Snapshot, names: Sequence[str]) -> list[Row]:
    """(id, family, a score for each name or None) in the order of the pool."""
    query = _chosen(snapshot.dataset_id, snapshot.spec, snapshot.through_seq)
    wanted = [Record.scores[name].as_float() for name in names]
    return session.execute(query.with_only_columns(Record.id, Record.family, *wanted).order_by(Record.seq)).all()


def count_scored(session: Session, dataset_id: str, spec: dict, through_seq: int, names: Sequence[str]) -> int:
    query = _chosen(dataset_id, spec, through_seq).with_only_columns(func.count())
    return session.scalar(query.where(*(Record.scores[name].as_float().is_not(None) for name in names)))


def embeddings(session: Session, families: Sequence[str]) -> dict[str, bytes]:
    query = select(Record.id, Record.embedding).where(Record.id.in_(families), Record.embedding.is_not(None))
    return {row.id: row.embedding for row in session.execute(query)}


def pairs(session: Session, record_ids: Sequence[str]) -> dict[str, list[Preference]]:
    """Preference pairs by the record that they belong to, oldest first."""
    found: dict[str, list[Preference]] = {}
    query = select(Preference).where(Preference.record_id.in_(record_ids)).order_by(Preference.id)
    for one in session.scalars(query):
        found.setdefault(one.record_id, []).append(one)
    return found


def count_pairs(session: Session, dataset_id: str, spec: dict, through_seq: int) -> int:
    chosen = _chosen(dataset_id, spec, through_seq).with_only_columns(Record.id)
    return session.scalar(select(func.count()).where(Preference.record_id.in_(chosen)))
