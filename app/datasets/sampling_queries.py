"""SQL of the material that runs draw from: records as parents, labelled rows, and passages.

Each run draws in an order of its own, that of md5(id/salt): it is random, it is the same for every worker, and it
continues from any position without a list of the ids that were drawn before. A record with a `pool_position` is an
accepted one; rejected and removed records have none.
"""

import random
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Select, exists, func, select
from sqlalchemy.orm import Session, aliased

from app.synth.methods.material import Positions
from app.synth.methods.parents import ParentFilter
from app.tables.datasets import Dataset, Record, Source

# Up to MAX_LISTED_ROWS rows all ids are listed and sampled. In larger pools up to MAX_PROBES random positions are read
# instead, since a list of all ids for each batch would take longer with every row.
MAX_LISTED_ROWS, MAX_PROBES = 500, 64


def load_sources(session: Session, ids: Sequence[str]) -> Sequence[Source]:
    """Return the labelled rows and passages with these ids. Ids that do not exist any more are left out."""
    return session.scalars(select(Source).where(Source.id.in_(ids))).all()


def sample_generated(session: Session, dataset: Dataset, count: int, rng: random.Random) -> list[str]:
    """Return the ids of up to `count` representatives of generated groups, drawn uniformly."""
    representatives = select(Record.id).where(
        Record.dataset_id == dataset.id,
        Record.pool_position.is_not(None),
        Record.origin == "generated",
        Record.group_id == Record.id,
    )
    if count == 0 or dataset.accepted_count == 0:
        return []
    if dataset.accepted_count > MAX_LISTED_ROWS:
        # More probes than `count`: the row at a position may be a seed or no representative, or may have been removed.
        probes = rng.sample(range(1, dataset.last_pool_position + 1), min(MAX_PROBES, dataset.last_pool_position))
        matches = session.scalars(
            representatives.where(Record.pool_position.in_(probes)).order_by(Record.pool_position)
        ).all()
        if len(matches) >= count:
            return rng.sample(list(matches), count)
        # The probes have matched too few representatives, so all ids are listed.
    ids = session.scalars(representatives.order_by(Record.pool_position)).all()
    return rng.sample(list(ids), min(count, len(ids)))


def has_seeds(session: Session, dataset_id: str) -> bool:
    """Return whether the dataset has an accepted seed, without which a run that draws seeds can't start."""
    query = select(Record.id).where(
        Record.dataset_id == dataset_id, Record.origin == "seed", Record.pool_position.is_not(None)
    )
    return session.scalar(query.limit(1)) is not None


def load_seed_embeddings(session: Session, dataset_id: str, max_rows: int) -> Sequence[bytes]:
    """Return the unit vectors (float32) of the first seeds that have one, up to `max_rows`, for the report of a run."""
    query = select(Record.embedding).where(
        Record.dataset_id == dataset_id, Record.origin == "seed", Record.embedding.is_not(None)
    )
    return session.scalars(query.order_by(Record.pool_position).limit(max_rows)).all()


def count_accepted_by_method(session: Session, dataset_id: str, method: str) -> int:
    """Count the accepted rows that this method has generated, for the target of a run that fills a share."""
    query = select(func.count()).where(
        Record.dataset_id == dataset_id, Record.pool_position.is_not(None), Record.method == method
    )
    return session.scalar(query)


def list_next_parents(
    session: Session,
    dataset_id: str,
    parent_filter: ParentFilter,
    except_run_id: str,
    except_answered_by: str | None,
    salt: str,
    after: str,
    count: int,
) -> Positions:
    """Return the next accepted records that may be parents, as (id, position).

    Args:
        session: the transaction.
        dataset_id: the dataset.
        parent_filter: which records. Dialogues are never parents.
        except_run_id: a run whose own rows are left out.
        except_answered_by: a method; records that already have an accepted answer by it are left out.
        salt: names the order.
        after: the position behind which to continue; empty for the first records.
        count: how many to return at most.
    """
    query = select(Record.id).where(
        Record.dataset_id == dataset_id,
        Record.pool_position.is_not(None),
        Record.messages.is_(None),
        Record.run_id.is_distinct_from(except_run_id),
        *_conditions(parent_filter),
    )
    if except_answered_by is not None:
        answer = aliased(Record)
        # A containment, which the index on `lineage` serves.
        parents = func.jsonb_build_object("parents", func.jsonb_build_array(Record.id))
        conditions = (answer.method == except_answered_by, answer.pool_position.is_not(None))
        # So a second run of the method answers the records that the first one has not answered.
        query = query.where(~exists().where(*conditions, answer.lineage.contains(parents)))
    return _read_next(session, query, Record.id, salt, after, count)


def count_parents(session: Session, dataset_id: str, parent_filter: ParentFilter) -> int:
    """Count the accepted records that may be parents, with those that have an answer."""
    query = select(func.count()).where(
        Record.dataset_id == dataset_id,
        Record.pool_position.is_not(None),
        Record.messages.is_(None),
        *_conditions(parent_filter),
    )
    return session.scalar(query)


def _conditions(parent_filter: ParentFilter) -> list[ColumnElement[bool]]:
    """Return the conditions of the filter: the same as `app.synth.methods.parents.passes_filter`."""
    values = {
        Record.origin: parent_filter.origin,
        Record.run_id: parent_filter.run_id,
        Record.method: parent_filter.method,
        Record.operation: parent_filter.operation,
        Record.tags["topic"].astext: parent_filter.topic,
    }
    conditions = [column == value for column, value in values.items() if value is not None]
    if parent_filter.text is not None:
        conditions.append(Record.instruction.icontains(parent_filter.text, autoescape=True))
    if parent_filter.answered is not None:
        conditions.append((Record.output != "") == parent_filter.answered)
    for name, minimum in parent_filter.minimum_scores.items():
        conditions.append(Record.scores[name].as_float() >= minimum)
    return conditions


def list_next_passages(
    session: Session, dataset_id: str, document_ids: Sequence[str], salt: str, after: str, count: int
) -> Positions:
    """Return the next passages of these documents, or of all documents, as (id, position)."""
    query = select(Source.id).where(Source.dataset_id == dataset_id, Source.kind == "passage")
    if document_ids:
        query = query.where(Source.fields["document"].astext.in_(document_ids))
    return _read_next(session, query, Source.id, salt, after, count)


def count_passages(session: Session, dataset_id: str, document_ids: Sequence[str]) -> int:
    """Count the passages of these documents, or of all documents where none is named."""
    query = select(func.count()).where(Source.dataset_id == dataset_id, Source.kind == "passage")
    if document_ids:
        query = query.where(Source.fields["document"].astext.in_(document_ids))
    return session.scalar(query)


def list_next_labelled(session: Session, dataset_id: str, task: str, salt: str, after: str, count: int) -> Positions:
    """Return the next labelled rows of the task, as (id, position)."""
    query = select(Source.id).where(Source.dataset_id == dataset_id, Source.kind == "labelled", Source.task == task)
    return _read_next(session, query, Source.id, salt, after, count)


def count_labelled_by_task(session: Session, dataset_id: str, tasks: Sequence[str]) -> dict[str, int]:
    """Count the labelled rows of these tasks, or of all tasks where none is named, by task."""
    query = select(Source.task, func.count()).where(Source.dataset_id == dataset_id, Source.kind == "labelled")
    if tasks:
        query = query.where(Source.task.in_(tasks))
    return {task: count for task, count in session.execute(query.group_by(Source.task).order_by(Source.task))}


def _read_next(session: Session, query: Select, id, salt: str, after: str, count: int) -> Positions:
    """Return the next `count` rows of the query behind the position `after`, in the order that the salt names."""
    position = func.md5(id + f"/{salt}")
    query = query.add_columns(position.label("position")).where(position > after).order_by(position).limit(count)
    return [(row[0], row[1]) for row in session.execute(query)]
