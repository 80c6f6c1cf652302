"""All SQL of snapshots."""

from collections.abc import Iterator, Sequence

from sqlalchemy import Row, Select, func, select
from sqlalchemy.orm import Session

from app.errors import not_found
from app.leases import free
from app.tables.datasets import Dataset, Record
from app.tables.runs import Run
from app.tables.snapshots import Snapshot

OPEN = ("queued", "running")
ROWS_AT_ONCE = 500
EXPORTED = (Record.instruction, Record.input, Record.output, Record.origin, Record.method, Record.simulated)


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
    return query


def count_rows(session: Session, dataset_id: str, spec: dict, through_seq: int) -> int:
    return session.scalar(_chosen(dataset_id, spec, through_seq).with_only_columns(func.count()))


def rows(session: Session, snapshot: Snapshot) -> Iterator[Row]:
    """Streamed by a server-side cursor, as plain rows that no session keeps."""
    query = _chosen(snapshot.dataset_id, snapshot.spec, snapshot.through_seq).with_only_columns(*EXPORTED)
    yield from session.execute(query.order_by(Record.seq).execution_options(yield_per=ROWS_AT_ONCE))


def instructions(session: Session, snapshot: Snapshot) -> Iterator[str]:
    query = _chosen(snapshot.dataset_id, snapshot.spec, snapshot.through_seq).with_only_columns(Record.instruction)
    yield from session.scalars(query.order_by(Record.seq).execution_options(yield_per=10 * ROWS_AT_ONCE))


def claimable(session: Session, id: str) -> Snapshot | None:
    query = select(Snapshot).where(Snapshot.id == id, Snapshot.status.in_(OPEN), free(Snapshot))
    return session.scalar(query.with_for_update(skip_locked=True))


def unfinished(session: Session) -> Sequence[str]:
    return session.scalars(select(Snapshot.id).where(Snapshot.status.in_(OPEN), free(Snapshot))).all()
