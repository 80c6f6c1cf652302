"""Queries over the records of a dataset, for the slices above: selected by conditions, by ids, or by embedding."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Select, cast, func, or_, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session, undefer

from app.tables.datasets import Record

# Each id is a parameter, and PostgreSQL allows 65,535 of them in a statement.
IDS_PER_QUERY = 10_000


def record_conditions(dataset_id: str, filters: dict, tags: dict, contains: str | None) -> list[ColumnElement[bool]]:
    """Return the conditions of the records that match the filters.

    Args:
        dataset_id: the dataset.
        filters: by the name of a column, the value that it must have; None for any value.
        tags: the same by the name of a tag.
        contains: a part of the instruction, in any case; None for any instruction.
    """
    conditions = [Record.dataset_id == dataset_id]
    conditions += [getattr(Record, name) == value for name, value in filters.items() if value is not None]
    conditions += [Record.tags[name].astext == value for name, value in tags.items() if value is not None]
    if contains:
        conditions.append(Record.instruction.icontains(contains, autoescape=True))
    return conditions


def has_answer() -> ColumnElement[bool]:
    """Return the condition that a record has an output, or is a dialogue."""
    return or_(Record.output != "", Record.messages.is_not(None))


def count_records(session: Session, conditions: Sequence[ColumnElement[bool]]) -> tuple[int, str]:
    """Return the number of records that meet the conditions, and the id of the newest; empty without any."""
    count, newest = session.execute(select(func.count(), func.max(Record.id)).where(*conditions)).one()
    return count, newest or ""


def load_next(
    session: Session,
    conditions: Sequence[ColumnElement[bool]],
    after: str,
    last_id: str,
    except_ids: Select[tuple[str]],
    limit: int,
) -> Sequence[Record]:
    """Return the next records that meet the conditions, in the order of their ids.

    Args:
        session: the transaction.
        conditions: the conditions.
        after: the id after which to continue.
        last_id: the last id to return: records that were added later have higher ids.
        except_ids: a query for the ids of records to leave out.
        limit: how many to return at most.
    """
    # One query of the database: the ids to leave out may be as many as the records.
    (excluded_id,) = except_ids.selected_columns
    excluded = except_ids.where(excluded_id == Record.id).exists()
    query = select(Record).where(*conditions, Record.id > after, Record.id <= last_id, ~excluded)
    return session.scalars(query.order_by(Record.id).limit(limit)).all()


def sample_records(session: Session, ids: Select[tuple[str]], limit: int) -> Sequence[Record]:
    """Return up to `limit` of the records whose ids the query selects, the same records every time."""
    # The order of md5(id) is random, and it is the same in every query without a stored seed.
    query = select(Record).where(Record.id.in_(ids))
    return session.scalars(query.order_by(func.md5(Record.id)).limit(limit)).all()


def select_pool_positions() -> Select[tuple[str, int]]:
    """Return a query for (id, pool_position) of the accepted records, to join with."""
    return select(Record.id, Record.pool_position).where(Record.pool_position.is_not(None))


def find_accepted(session: Session, ids: Sequence[str]) -> set[str]:
    """Return those of the ids that belong to accepted records."""
    accepted: set[str] = set()
    for start in range(0, len(ids), IDS_PER_QUERY):
        query = select(Record.id).where(Record.id.in_(ids[start : start + IDS_PER_QUERY]))
        accepted.update(session.scalars(query.where(Record.pool_position.is_not(None))))
    return accepted


def add_scores(session: Session, dataset_id: str, record_id: str, scores: dict, tags: dict | None = None) -> None:
    """Add scores and tags to the record. They replace those of the same names."""
    # Concatenated by the database: a judgement and a scoring may store scores at the same time.
    values = {"scores": Record.scores.concat(cast(scores, JSONB))}
    if tags:
        values["tags"] = Record.tags.concat(cast(tags, JSONB))
    session.execute(update(Record).where(Record.id == record_id, Record.dataset_id == dataset_id).values(**values))


def add_tags(session: Session, record_id: str, tags: dict) -> None:
    """Add tags to the record. They replace those of the same names."""
    session.execute(update(Record).where(Record.id == record_id).values(tags=Record.tags.concat(cast(tags, JSONB))))


def count_accepted(session: Session, dataset_id: str) -> int:
    """Return the number of accepted rows, seeds included."""
    query = select(func.count()).where(Record.dataset_id == dataset_id, Record.pool_position.is_not(None))
    return session.scalar(query)


def load_accepted(session: Session, dataset_id: str, after_position: int, limit: int) -> Sequence[Record]:
    """Return the next rows of the pool by position, with their embeddings."""
    # Embeddings are not loaded with a record otherwise: they are 1.5 KB a row, and most readers do not need them.
    query = select(Record).where(Record.dataset_id == dataset_id, Record.pool_position > after_position)
    return session.scalars(query.options(undefer(Record.embedding)).order_by(Record.pool_position).limit(limit)).all()


def count_encoded(session: Session, dataset_id: str) -> int:
    """Return the number of rows that have an embedding, rejected ones included."""
    query = select(func.count()).where(Record.dataset_id == dataset_id, Record.embedding.is_not(None))
    return session.scalar(query)


def load_encoded(session: Session, dataset_id: str, after: str, limit: int) -> Sequence[Record]:
    """Return the next rows, by id, that have an embedding. The embedding itself is not loaded."""
    query = select(Record).where(Record.dataset_id == dataset_id, Record.embedding.is_not(None), Record.id > after)
    return session.scalars(query.order_by(Record.id).limit(limit)).all()


def replace_embeddings(session: Session, new: Select[tuple[str, bytes]]) -> None:
    """Replace the embeddings of records in one statement.

    Args:
        session: the transaction.
        new: a query for (id of the record, new embedding). The vectors never leave the database.
    """
    ids_and_vectors = new.subquery()
    record_id, embedding = ids_and_vectors.c
    session.execute(update(Record).where(Record.id == record_id).values(embedding=embedding))
