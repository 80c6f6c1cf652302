"""SQL of datasets, records, sources and imports. Queries that continue a list take `limit` + 1 rows: see `page`."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import ColumnElement, Row, case, delete, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from app.datasets.records import record_conditions
from app.errors import conflict, not_found
from app.jobs import active_jobs
from app.synth.novelty.pool import comparison_text
from app.synth.types import Candidate, Turn
from app.tables.datasets import Dataset, Decision, Import, Preference, Record, Source


def dataset(session: Session, project_id: str, id: str) -> Dataset:
    """Return the project's dataset with this id. Raises a 404 where there is none."""
    row = find_dataset(session, project_id, id)
    if row is None:
        raise not_found("dataset", id)
    return row


def protect_dataset(session: Session, project_id: str, id: str) -> Dataset | None:
    """Return the project's dataset or None. Nobody can delete it until this transaction ends."""
    # A key share lock: it stops a deletion, but not the runs that admit rows to the dataset.
    query = select(Dataset).where(Dataset.id == id, Dataset.project_id == project_id)
    return session.scalar(query.with_for_update(read=True, key_share=True))


def find_dataset(session: Session, project_id: str, id: str) -> Dataset | None:
    """Return the project's dataset with this id, or None."""
    return session.scalar(select(Dataset).where(Dataset.id == id, Dataset.project_id == project_id))


def load_dataset(session: Session, id: str) -> Dataset | None:
    """Return the dataset of any project, for workers. None where it was deleted."""
    return session.get(Dataset, id)


def list_datasets(session: Session, project_id: str, limit: int, after: str | None) -> Sequence[Dataset]:
    """Return the project's datasets, newest first, those with an id below `after`."""
    query = select(Dataset).where(Dataset.project_id == project_id).order_by(Dataset.id.desc()).limit(limit + 1)
    return session.scalars(query.where(Dataset.id < after) if after else query).all()


def name_exists(session: Session, project_id: str, name: str, except_id: str = "") -> bool:
    """Whether a dataset of the project, other than `except_id`, has this name."""
    query = select(Dataset.id).where(Dataset.project_id == project_id, Dataset.name == name, Dataset.id != except_id)
    return session.scalar(query) is not None


def lock_dataset(session: Session, id: str) -> Dataset:
    """Take the lock of admission until this transaction ends, then read the row. It is the first lock to take.

    The lock is advisory: it keeps other admissions out, but not readers, nor a rename of the dataset.
    """
    session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:id, 0))"), {"id": id})
    # A row that was read before the lock may lack what the previous holder of the lock has committed.
    return session.scalar(select(Dataset).where(Dataset.id == id).execution_options(populate_existing=True))


def refuse_while_encoding(session: Session, dataset_id: str) -> None:
    """Raise a 409 while all rows are being encoded anew. Takes the dataset's lock."""
    lock_dataset(session, dataset_id)
    maintenance_job_id = active_jobs.find_exclusive(session, dataset_id)
    if maintenance_job_id is not None:
        raise conflict(f"The dataset is being encoded anew by {maintenance_job_id}; start this when that has ended.")


def delete_dataset(session: Session, id: str) -> None:
    """Delete the dataset, with all rows that refer to it."""
    session.execute(delete(Dataset).where(Dataset.id == id))


def insert_records(session: Session, rows: list[dict]) -> None:
    """Insert rows that all have the same keys, in one statement."""
    if rows:
        # The table and not the mapped class: SQLAlchemy would insert row by row where a value is null, and other
        # workers wait for the dataset's lock meanwhile.
        session.execute(insert(Record.__table__), rows)


def insert_preferences(session: Session, rows: list[dict]) -> None:
    """Insert preference pairs that all have the same keys."""
    if rows:
        session.execute(insert(Preference), rows)


def list_preferences(session: Session, record_id: str) -> Sequence[Preference]:
    """Return the preference pairs of the record, oldest first."""
    return session.scalars(select(Preference).where(Preference.record_id == record_id).order_by(Preference.id)).all()


def list_replaced_decisions(session: Session, record_id: str) -> Sequence[Decision]:
    """Return the decisions on the record that later decisions replaced, oldest first."""
    query = select(Decision).where(Decision.record_id == record_id).order_by(Decision.decision)
    return session.scalars(query).all()


def count_preferences(session: Session, dataset_id: str) -> int:
    """Count the preference pairs of the dataset."""
    return session.scalar(select(func.count()).where(Preference.dataset_id == dataset_id))


def insert_sources(session: Session, rows: list[dict]) -> int:
    """Insert the sources that the dataset does not have yet, and return how many were inserted."""
    if not rows:
        return 0
    statement = upsert(Source).on_conflict_do_nothing(constraint="uq_sources_dataset_id_kind_content_hash")
    return len(session.execute(statement.returning(Source.id), rows).all())


def list_sources(
    session: Session, dataset_id: str, kind: str, task: str | None, limit: int, after: str | None
) -> Sequence[Source]:
    """Return the dataset's sources of a kind, and of a task if one is named, newest first."""
    query = select(Source).where(Source.dataset_id == dataset_id, Source.kind == kind)
    query = query.order_by(Source.id.desc()).limit(limit + 1)
    if task is not None:
        query = query.where(Source.task == task)
    return session.scalars(query.where(Source.id < after) if after else query).all()


def count_sources(session: Session, dataset_id: str) -> dict[str, int]:
    """Count documents and passages by kind, and labelled rows by `labelled/task`."""
    query = select(Source.kind, Source.task, func.count()).where(Source.dataset_id == dataset_id)
    counted = session.execute(query.group_by(Source.kind, Source.task).order_by(Source.kind, Source.task))
    return {f"{kind}/{task}" if task else kind: count for kind, task, count in counted}


def representative_ids(session: Session, dataset_id: str, instructions: Collection[str]) -> dict[str, str]:
    """Return the ids of the representatives of the pool's groups, by these of their instructions."""
    if not instructions:
        return {}
    # The index is over the md5: an instruction may be longer than an index entry can be.
    digests = [hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() for text in instructions]
    query = select(Record.instruction, Record.id).where(
        Record.dataset_id == dataset_id,
        Record.pool_position.is_not(None),
        Record.group_id == Record.id,
        func.md5(Record.instruction).in_(digests),
    )
    return {row.instruction: row.id for row in session.execute(query.order_by(Record.pool_position.desc()))}


def find_copies(session: Session, dataset_id: str, hashes: Sequence[bytes]) -> dict[bytes, tuple[str, str]]:
    """Return (id, instruction) of the pool's rows that have one of these content hashes, by the hash."""
    query = select(Record.content_hash, Record.id, Record.instruction).where(
        Record.dataset_id == dataset_id, Record.status == "accepted", Record.content_hash.in_(hashes)
    )
    return {row.content_hash: (row.id, row.instruction) for row in session.execute(query)}


@dataclass(frozen=True)
class PoolEntry:
    """A row of the pool with which others are compared, and the text of it that the dataset's scope compares."""

    position: int
    id: str
    text: str
    vector: np.ndarray | None


def stream_pool_entries(session: Session, dataset: Dataset, after_position: int) -> Iterator[PoolEntry]:
    """Yield the entries above `after_position`, in their order."""
    columns = (Record.pool_position, Record.id, *_COMPARED_COLUMNS, Record.embedding)
    query = (
        select(*columns).where(*_entries(dataset), Record.pool_position > after_position).order_by(Record.pool_position)
    )
    # The whole pool may not fit in memory, so it is streamed. The few newest rows need no server-side cursor.
    for row in session.execute(query if after_position else query.execution_options(yield_per=1000)):
        vector = None if row.embedding is None else np.frombuffer(row.embedding, dtype=np.float32)
        yield PoolEntry(row.pool_position, row.id, compared_text(dataset, row), vector)


def load_unencoded(session: Session, dataset: Dataset, limit: int) -> Sequence[tuple[str, str]]:
    """Return (id, text) of up to `limit` entries of the pool that have no embedding yet."""
    query = select(Record.id, *_COMPARED_COLUMNS).where(*_entries(dataset), Record.embedding.is_(None)).limit(limit)
    return [(row.id, compared_text(dataset, row)) for row in session.execute(query)]


_COMPARED_COLUMNS = (Record.instruction, Record.input, Record.output, Record.messages)


def _entries(dataset: Dataset) -> list[ColumnElement[bool]]:
    """In the scope `instruction` a group has one entry, its representative; in other scopes every row is an entry."""
    conditions = [Record.dataset_id == dataset.id, Record.pool_position.is_not(None)]
    return [*conditions, Record.group_id == Record.id] if dataset.scope == "instruction" else conditions


def compared_text(dataset: Dataset, row: Row | Record) -> str:
    """Return the text of the row that the dataset's scope compares."""
    turns = tuple(Turn(**turn) for turn in row.messages or ())
    return comparison_text(dataset.scope, Candidate(row.instruction, row.input, row.output, messages=turns))


def set_encoding_once(session: Session, dataset_id: str, identity: dict) -> dict:
    """Set the encoding of the dataset unless it is set already, and return the encoding that the dataset has.

    Two workers may encode for a new dataset at once; the row lock lets the first one decide.
    """
    row = session.scalar(select(Dataset).where(Dataset.id == dataset_id).with_for_update(key_share=True))
    if row.encoding is None:
        row.encoding = identity
    return row.encoding


def replace_encoder(session: Session, dataset_id: str, name: str, identity: dict) -> dict | None:
    """Set another encoder, and return the former encoding. All vectors were replaced; the caller has the lock.

    Every process must load its cached pool again, which the increment of `pool_version` tells it.
    """
    dataset = load_dataset(session, dataset_id)
    former = dataset.encoding
    dataset.encoder, dataset.encoding = name, identity
    dataset.pool_version += 1
    return former


def save_embeddings(session: Session, vectors: dict[str, bytes]) -> None:
    """Store vectors (float32) by record. A record that another process has encoded meanwhile keeps its own."""
    for id, vector in vectors.items():
        session.execute(update(Record).where(Record.id == id, Record.embedding.is_(None)).values(embedding=vector))


def load_embeddings(session: Session, ids: Sequence[str]) -> dict[str, bytes]:
    """Return the vectors (float32) of those of the records that have one, by id."""
    query = select(Record.id, Record.embedding).where(Record.id.in_(ids), Record.embedding.is_not(None))
    return {row.id: row.embedding for row in session.execute(query)}


def record(session: Session, project_id: str, id: str) -> Record:
    """Return the project's record with this id. Raises a 404 where there is none."""
    query = select(Record).join(Dataset).where(Record.id == id, Dataset.project_id == project_id)
    row = session.scalar(query)
    if row is None:
        raise not_found("record", id)
    return row


def list_records(
    session: Session, dataset_id: str, filters: dict, tags: dict, contains: str | None, limit: int, after: str | None
) -> Sequence[Record]:
    """Return the dataset's records that fit (see `record_conditions`), newest first."""
    query = select(Record).where(*record_conditions(dataset_id, filters, tags, contains))
    query = query.order_by(Record.id.desc()).limit(limit + 1)
    return session.scalars(query.where(Record.id < after) if after else query).all()


def load_records(session: Session, ids: Sequence[str]) -> Sequence[Record]:
    """Return the records with these ids, in the order of their ids. Ids that do not exist are left out."""
    return session.scalars(select(Record).where(Record.id.in_(ids)).order_by(Record.id)).all()


def list_children(session: Session, row: Record, limit: int = 50) -> Sequence[Record]:
    """Return up to `limit` records of which this one is a parent."""
    # A containment: the index on `lineage` serves it, and a comparison of its parts would read all rows.
    parent = {"parents": [row.id]}
    query = select(Record).where(Record.dataset_id == row.dataset_id, Record.lineage.contains(parent))
    return session.scalars(query.order_by(Record.id).limit(limit)).all()


def load_groups(session: Session, representatives: Sequence[str]) -> Sequence[Record]:
    """Return the pool's rows of these groups, group by group, the representative first in each."""
    query = select(Record).where(Record.group_id.in_(representatives), Record.pool_position.is_not(None))
    return session.scalars(
        query.order_by(Record.group_id, case((Record.id == Record.group_id, 0), else_=1), Record.pool_position)
    ).all()


def list_representatives(
    session: Session, dataset_id: str, origin: str, run_id: str | None = None
) -> Sequence[tuple[str, bool | None]]:
    """Return (id, is_classification) of the pool's representatives with this origin, oldest first."""
    query = select(Record.id, Record.is_classification).where(
        Record.dataset_id == dataset_id,
        Record.pool_position.is_not(None),
        Record.group_id == Record.id,
        Record.origin == origin,
    )
    if run_id:
        query = query.where(Record.run_id == run_id)
    return [(row.id, row.is_classification) for row in session.execute(query.order_by(Record.pool_position))]


def count_by(session: Session, dataset_id: str, *columns) -> list[tuple]:
    """Count the records by the values of these columns. Returns (value of each column, …, count)."""
    query = select(*columns, func.count()).where(Record.dataset_id == dataset_id).group_by(*columns)
    return [tuple(row) for row in session.execute(query)]


def load_import(session: Session, project_id: str, dataset_id: str, id: str) -> Import:
    """Return the import of the project's dataset with this id. Raises a 404 where there is none."""
    row = session.scalar(
        select(Import).where(Import.id == id, Import.dataset_id == dataset_id, Import.project_id == project_id)
    )
    if row is None:
        raise not_found("import", id)
    return row


def list_imports(session: Session, dataset_id: str, limit: int, after: str | None) -> Sequence[Import]:
    """Return the dataset's imports, newest first, those with an id below `after`."""
    query = select(Import).where(Import.dataset_id == dataset_id).order_by(Import.id.desc()).limit(limit + 1)
    return session.scalars(query.where(Import.id < after) if after else query).all()
