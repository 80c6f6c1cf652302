"""All SQL of maintenance jobs and evaluation sets."""

from collections.abc import Iterator, Sequence

from sqlalchemy import delete, func, insert, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from app.datasets import records
from app.errors import not_found
from app.tables.maintenance import EvaluationItem, EvaluationSet, MaintenanceJob, Match, NewEmbedding

ITEMS_PER_INSERT = 1000


def maintenance_job(session: Session, project_id: str, id: str) -> MaintenanceJob:
    row = session.scalar(select(MaintenanceJob).where(MaintenanceJob.id == id, MaintenanceJob.project_id == project_id))
    if row is None:
        raise not_found("maintenance job", id)
    return row


def maintenance_jobs(session: Session, project_id: str, dataset_id: str | None, limit: int, after: str | None):
    query = (
        select(MaintenanceJob)
        .where(MaintenanceJob.project_id == project_id)
        .order_by(MaintenanceJob.id.desc())
        .limit(limit + 1)
    )
    if dataset_id:
        query = query.where(MaintenanceJob.dataset_id == dataset_id)
    return session.scalars(query.where(MaintenanceJob.id < after) if after else query).all()


def insert_new_embeddings(session: Session, rows: list[dict]) -> None:
    session.execute(upsert(NewEmbedding).on_conflict_do_nothing(), rows)


def last_new_embedding(session: Session, maintenance_job_id: str) -> str:
    query = select(func.max(NewEmbedding.record_id)).where(NewEmbedding.maintenance_job_id == maintenance_job_id)
    return session.scalar(query) or ""


def apply_new_embeddings(session: Session, maintenance_job_id: str) -> None:
    """Replace the embeddings of all records that have a new one."""
    new = select(NewEmbedding.record_id, NewEmbedding.embedding).where(
        NewEmbedding.maintenance_job_id == maintenance_job_id
    )
    records.replace_embeddings(session, new)


def delete_new_embeddings(session: Session, maintenance_job_id: str) -> None:
    session.execute(delete(NewEmbedding).where(NewEmbedding.maintenance_job_id == maintenance_job_id))


def evaluation_set(session: Session, project_id: str, id: str) -> EvaluationSet:
    row = session.scalar(select(EvaluationSet).where(EvaluationSet.id == id, EvaluationSet.project_id == project_id))
    if row is None:
        raise not_found("evaluation set", id)
    return row


def evaluation_sets(session: Session, project_id: str, limit: int, after: str | None) -> Sequence[EvaluationSet]:
    query = select(EvaluationSet).where(EvaluationSet.project_id == project_id)
    query = query.order_by(EvaluationSet.id.desc()).limit(limit + 1)
    return session.scalars(query.where(EvaluationSet.id < after) if after else query).all()


def set_name_exists(session: Session, project_id: str, name: str) -> bool:
    query = select(EvaluationSet.id).where(EvaluationSet.project_id == project_id, EvaluationSet.name == name)
    return session.scalar(query) is not None


def find_existing_sets(session: Session, project_id: str, ids: Sequence[str]) -> set[str]:
    query = select(EvaluationSet.id).where(EvaluationSet.project_id == project_id, EvaluationSet.id.in_(ids))
    return set(session.scalars(query))


def insert_items(session: Session, set_id: str, texts: Sequence[str]) -> None:
    for start in range(0, len(texts), ITEMS_PER_INSERT):
        part = texts[start : start + ITEMS_PER_INSERT]
        session.execute(
            insert(EvaluationItem),
            [{"set_id": set_id, "place": start + n, "text": text} for n, text in enumerate(part)],
        )


def items(session: Session, set_ids: Sequence[str]) -> Iterator[EvaluationItem]:
    query = select(EvaluationItem).where(EvaluationItem.set_id.in_(set_ids))
    yield from session.scalars(query.order_by(EvaluationItem.set_id, EvaluationItem.place))


def insert_matches(session: Session, rows: list[dict]) -> None:
    if rows:
        session.execute(insert(Match), rows)


def delete_matches(session: Session, maintenance_job_id: str) -> None:
    session.execute(delete(Match).where(Match.maintenance_job_id == maintenance_job_id))


def matches(session: Session, maintenance_job_id: str, limit: int, after: int) -> Sequence[Match]:
    query = select(Match).where(Match.maintenance_job_id == maintenance_job_id, Match.id > after).order_by(Match.id)
    return session.scalars(query.limit(limit + 1)).all()


def strongest_matches(session: Session, maintenance_job_id: str) -> Iterator[Match]:
    """The best match of each record; n-grams before embeddings, which say less."""
    query = select(Match).where(Match.maintenance_job_id == maintenance_job_id)
    ordered = query.order_by(Match.record_id, (Match.kind == "embedding"), Match.score.desc(), Match.id)
    yield from session.scalars(ordered.ext(distinct_on(Match.record_id)))


def load_kind(session: Session, id: str) -> str | None:
    """The kind of the maintenance job; None where it was deleted."""
    return session.scalar(select(MaintenanceJob.kind).where(MaintenanceJob.id == id))
