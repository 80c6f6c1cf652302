"""SQL of what runs draw from: records as parents, labelled rows, passages; each in an order of the run's own.

The order is that of md5(id, salt): random, the same for every reader, and continued from any place.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Select, exists, func, select
from sqlalchemy.orm import Session, aliased

from app.synth.methods.material import Positions
from app.synth.methods.parents import ParentFilter
from app.tables.datasets import Record, Source
from app.tables.runs import Run


def by_id(session: Session, ids: Sequence[str]) -> Sequence[Source]:
    return session.scalars(select(Source).where(Source.id.in_(ids))).all()


def parents(
    session: Session, run: Run, chosen: ParentFilter, unanswered: bool, salt: str, after: str, count: int
) -> Positions:
    """Accepted records that the filter lets through, except rows of the run itself and dialogues.

    `unanswered`: only those to which no accepted answer was given before.
    """
    query = select(Record.id).where(
        Record.dataset_id == run.dataset_id,
        Record.pool_position.is_not(None),
        Record.messages.is_(None),
        Record.run_id.is_distinct_from(run.id),
        *_conditions(chosen),
    )
    if unanswered:
        answer = aliased(Record)
        of_this_record = answer.lineage.contains(func.jsonb_build_object("parents", func.jsonb_build_array(Record.id)))
        query = query.where(
            ~exists().where(answer.method == run.method, answer.pool_position.is_not(None), of_this_record)
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
    """The same as `app.synth.methods.parents.fits`."""
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
    for name, least in chosen.minimum_scores.items():
        conditions.append(Record.scores[name].as_float() >= least)
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
