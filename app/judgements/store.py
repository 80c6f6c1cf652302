"""All SQL of judgements and of the rows that they have judged."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from app.datasets import records
from app.datasets.rows import RecordRow
from app.errors import not_found
from app.jobs.leases import is_unclaimed
from app.synth.quality.judge_records import JudgementOptions
from app.tables.judgements import JudgedRow, Judgement

TAGS = ("topic", "task_type")
# Outcomes that say nothing against a row.
NO_FAULT = ("passed", "unjudged")


def judgement(session: Session, project_id: str, id: str) -> Judgement:
    """Return the project's judgement with this id. Raises a 404 where there is none."""
    row = session.scalar(select(Judgement).where(Judgement.id == id, Judgement.project_id == project_id))
    if row is None:
        raise not_found("judgement", id)
    return row


def list_judgements(
    session: Session, project_id: str, dataset_id: str | None, limit: int, after: str | None
) -> Sequence[Judgement]:
    """Return the project's judgements, of a dataset if one is named, newest first, those with an id below `after`."""
    query = select(Judgement).where(Judgement.project_id == project_id).order_by(Judgement.id.desc()).limit(limit + 1)
    if dataset_id:
        query = query.where(Judgement.dataset_id == dataset_id)
    return session.scalars(query.where(Judgement.id < after) if after else query).all()


def locked_judgement(session: Session, id: str) -> Judgement:
    """Lock the judgement until this transaction ends, and return it as it is now.

    Lock it after its dataset and before its account: all transactions keep this order.
    """
    # Not the strongest lock: other transactions may insert rows that refer to the judgement.
    query = select(Judgement).where(Judgement.id == id).with_for_update(key_share=True)
    return session.scalar(query.execution_options(populate_existing=True))


def build_conditions(dataset_id: str, filter: dict, options: JudgementOptions) -> list[ColumnElement[bool]]:
    """Return the conditions that a record fits the filter, and has what is to be judged."""
    tags = {name: filter[name] for name in TAGS}
    columns = {name: value for name, value in filter.items() if name not in (*TAGS, "text")}
    conditions = records.record_conditions(dataset_id, columns, tags, filter["text"])
    if not options.question:
        conditions.append(records.has_answer())
    return conditions


def load_records_to_judge(
    session: Session, judgement: Judgement, conditions: Sequence[ColumnElement[bool]], after: str, limit: int
) -> Sequence[RecordRow]:
    """Return the next records without a verdict of this judgement, in the order of their ids."""
    done = select(JudgedRow.record_id).where(JudgedRow.judgement_id == judgement.id)
    return records.load_next(session, conditions, after, judgement.newest_record_id, done, limit)


def add_judged_rows(session: Session, rows: list[dict]) -> None:
    """Insert judged rows. A record that was judged already keeps its outcome."""
    if rows:
        session.execute(upsert(JudgedRow).on_conflict_do_nothing(), rows)


def list_rows_under_thresholds(session: Session, judgement_id: str) -> Sequence[JudgedRow]:
    """Return the judged rows that are still accepted, and that a run would have rejected."""
    pool = records.select_pool_positions().subquery()
    query = select(JudgedRow).join(pool, pool.c.id == JudgedRow.record_id)
    query = query.where(JudgedRow.judgement_id == judgement_id, JudgedRow.outcome.not_in(NO_FAULT))
    return session.scalars(query.order_by(pool.c.pool_position)).all()


def sample_judged_rows(session: Session, judgement_id: str, limit: int) -> Sequence[RecordRow]:
    """Return up to `limit` of the judged records, the same records every time."""
    judged = select(JudgedRow.record_id).where(JudgedRow.judgement_id == judgement_id, JudgedRow.outcome != "unjudged")
    return records.sample_records(session, judged, limit)


def list_due_to_resume(session: Session) -> Sequence[str]:
    """Return the ids of judgements that have waited long enough for their teacher to call it again."""
    due = (Judgement.paused_for.is_not(None), Judgement.resume_at < func.clock_timestamp())
    return session.scalars(select(Judgement.id).where(Judgement.status == "paused", *due)).all()


def list_abandoned_while_pausing(session: Session) -> Sequence[str]:
    """Return the ids of judgements whose worker was lost before it could pause them."""
    return session.scalars(select(Judgement.id).where(Judgement.status == "pausing", is_unclaimed(Judgement))).all()


def seconds_since(session: Session, moment: datetime) -> float:
    """Return the seconds since this moment, by the database's clock."""
    return float(session.scalar(select(func.extract("epoch", func.clock_timestamp() - moment))))
