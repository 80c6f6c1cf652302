"""SQL of what runs draw from: records as parents, labelled rows, passages; each in an order of the run's own.

The order is that of md5(id, salt): random, the same for every reader, and continued from any place.
"""

import random
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Select, exists, func, select
from sqlalchemy.orm import Session, aliased

from app.synth.methods.material import Positions
from app.synth.methods.parents import ParentFilter
from app.tables.datasets import Dataset, Record, Source

LIST_WHOLE_BELOW = 500


def by_id(session: Session, ids: Sequence[str]) -> Sequence[Source]:
    return session.scalars(select(Source).where(Source.id.in_(ids))).all()


def sample_generated(session: Session, dataset: Dataset, count: int, rng: random.Random) -> list[str]:
    """Ids of up to `count` generated representatives, uniformly.

    A large pool is probed by `pool_position`, which has no gaps.
    """
    representatives = select(Record.id).where(
        Record.dataset_id == dataset.id,
        Record.pool_position.is_not(None),
        Record.origin == "generated",
        Record.group_id == Record.id,
    )
    if count == 0 or dataset.accepted_count == 0:
        return []
    if dataset.accepted_count > LIST_WHOLE_BELOW:
        probes = rng.sample(range(1, dataset.last_pool_position + 1), min(64, dataset.last_pool_position))
        matches = session.scalars(
            representatives.where(Record.pool_position.in_(probes)).order_by(Record.pool_position)
        ).all()
        if len(matches) >= count:
            return rng.sample(list(matches), count)
    ids = session.scalars(representatives.order_by(Record.pool_position)).all()
    return rng.sample(list(ids), min(count, len(ids)))


def has_seeds(session: Session, dataset_id: str) -> bool:
    query = select(Record.id).where(
        Record.dataset_id == dataset_id, Record.origin == "seed", Record.pool_position.is_not(None)
    )
    return session.scalar(query.limit(1)) is not None


def seed_embeddings(session: Session, dataset_id: str, max_rows: int) -> Sequence[bytes]:
    """The float32 vectors of the first seeds."""
    query = select(Record.embedding).where(
        Record.dataset_id == dataset_id, Record.origin == "seed", Record.embedding.is_not(None)
    )
    return session.scalars(query.order_by(Record.pool_position).limit(max_rows)).all()


def count_accepted_by(session: Session, dataset_id: str, method: str) -> int:
    """Accepted rows of the dataset that a method has made."""
    query = select(func.count()).where(
        Record.dataset_id == dataset_id, Record.pool_position.is_not(None), Record.method == method
    )
    return session.scalar(query)


def parents(
    session: Session,
    dataset_id: str,
    chosen: ParentFilter,
    except_run_id: str,
    except_answered_by: str | None,
    salt: str,
    after: str,
    count: int,
) -> Positions:
    """Accepted records that the filter lets through, except dialogues and rows of one run.

    `except_answered_by`: a method; records that have an accepted answer by it are left out, too.
    """
    query = select(Record.id).where(
        Record.dataset_id == dataset_id,
        Record.pool_position.is_not(None),
        Record.messages.is_(None),
        Record.run_id.is_distinct_from(except_run_id),
        *_conditions(chosen),
    )
    if except_answered_by is not None:
        answer = aliased(Record)
        of_this_record = answer.lineage.contains(func.jsonb_build_object("parents", func.jsonb_build_array(Record.id)))
        query = query.where(
            ~exists().where(answer.method == except_answered_by, answer.pool_position.is_not(None), of_this_record)
        )
    return _in_order(session, query, Record.id, salt, after, count)


def count_parents(session: Session, dataset_id: str, chosen: ParentFilter) -> int:
    query = select(func.count()).where(
        Record.dataset_id == dataset_id,
        Record.pool_position.is_not(None),
        Record.messages.is_(None),
        *_conditions(chosen),
    )
    return session.scalar(query)


def _conditions(chosen: ParentFilter) -> list[ColumnElement[bool]]:
    """The same as `app.synth.methods.parents.passes_filter`."""
    named = {
        Record.origin: chosen.origin,
        Record.run_id: chosen.run_id,
        Record.method: chosen.method,
        Record.operation: chosen.operation,
        Record.tags["topic"].astext: chosen.topic,
    }
    conditions = [column == value for column, value in named.items() if value is not None]
    if chosen.text is not None:
        conditions.append(Record.instruction.icontains(chosen.text, autoescape=True))
    if chosen.answered is not None:
        conditions.append((Record.output != "") == chosen.answered)
    for name, minimum in chosen.minimum_scores.items():
        conditions.append(Record.scores[name].as_float() >= minimum)
    return conditions


def passages(
    session: Session, dataset_id: str, document_ids: Sequence[str], salt: str, after: str, count: int
) -> Positions:
    query = select(Source.id).where(Source.dataset_id == dataset_id, Source.kind == "passage")
    if document_ids:
        query = query.where(Source.fields["document"].astext.in_(document_ids))
    return _in_order(session, query, Source.id, salt, after, count)


def count_passages(session: Session, dataset_id: str, document_ids: Sequence[str]) -> int:
    query = select(func.count()).where(Source.dataset_id == dataset_id, Source.kind == "passage")
    if document_ids:
        query = query.where(Source.fields["document"].astext.in_(document_ids))
    return session.scalar(query)


def labelled(session: Session, dataset_id: str, task: str, salt: str, after: str, count: int) -> Positions:
    query = select(Source.id).where(Source.dataset_id == dataset_id, Source.kind == "labelled", Source.task == task)
    return _in_order(session, query, Source.id, salt, after, count)


def task_sizes(session: Session, dataset_id: str, tasks: Sequence[str]) -> dict[str, int]:
    query = select(Source.task, func.count()).where(Source.dataset_id == dataset_id, Source.kind == "labelled")
    if tasks:
        query = query.where(Source.task.in_(tasks))
    return {task: count for task, count in session.execute(query.group_by(Source.task).order_by(Source.task))}


def _in_order(session: Session, query: Select, id, salt: str, after: str, count: int) -> Positions:
    position = func.md5(id + f"/{salt}")
    query = query.add_columns(position.label("position")).where(position > after).order_by(position).limit(count)
    return [(row[0], row[1]) for row in session.execute(query)]
