"""All SQL of maintenance jobs and evaluation sets. Queries that continue a list take `limit` + 1 rows: see `page`."""

from collections.abc import Iterator, Sequence

from sqlalchemy import delete, func, insert, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from app.datasets import records
from app.errors import not_found
from app.tables.maintenance import EvaluationItem, EvaluationSet, MaintenanceJob, Match, NewEmbedding

# An upload may have as many items as an import has rows, and the parameters of a part are freed before the next part.
ITEMS_PER_INSERT = 1000


def load_maintenance_job(session: Session, project_id: str, id: str) -> MaintenanceJob:
    """Return the project's maintenance job with this id. Raises a 404 where there is none."""
    row = session.scalar(select(MaintenanceJob).where(MaintenanceJob.id == id, MaintenanceJob.project_id == project_id))
    if row is None:
        raise not_found("maintenance job", id)
    return row


def list_maintenance_jobs(
    session: Session, project_id: str, dataset_id: str | None, limit: int, after: str | None
) -> Sequence[MaintenanceJob]:
    """Return the project's jobs, of a dataset if one is named, newest first, those with an id below `after`."""
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
    """Insert embeddings that a re-encoding has computed. A row that is stored already keeps its embedding."""
    session.execute(upsert(NewEmbedding).on_conflict_do_nothing(), rows)


def find_last_encoded_record(session: Session, maintenance_job_id: str) -> str:
    """Return the highest id of the records that the re-encoding has encoded; empty before the first."""
    query = select(func.max(NewEmbedding.record_id)).where(NewEmbedding.maintenance_job_id == maintenance_job_id)
    return session.scalar(query) or ""


def apply_new_embeddings(session: Session, maintenance_job_id: str) -> None:
    """Replace the embeddings of all records for which the re-encoding has stored a new one."""
    new = select(NewEmbedding.record_id, NewEmbedding.embedding).where(
        NewEmbedding.maintenance_job_id == maintenance_job_id
    )
    records.replace_embeddings(session, new)


def delete_new_embeddings(session: Session, maintenance_job_id: str) -> None:
    """Delete the stored embeddings of the re-encoding: they were applied, or the job was cancelled or failed."""
    session.execute(delete(NewEmbedding).where(NewEmbedding.maintenance_job_id == maintenance_job_id))


def load_evaluation_set(session: Session, project_id: str, id: str) -> EvaluationSet:
    """Return the project's evaluation set with this id. Raises a 404 where there is none."""
    row = session.scalar(select(EvaluationSet).where(EvaluationSet.id == id, EvaluationSet.project_id == project_id))
    if row is None:
        raise not_found("evaluation set", id)
    return row


def list_evaluation_sets(session: Session, project_id: str, limit: int, after: str | None) -> Sequence[EvaluationSet]:
    """Return the project's evaluation sets, newest first, those with an id below `after`."""
    query = select(EvaluationSet).where(EvaluationSet.project_id == project_id)
    query = query.order_by(EvaluationSet.id.desc()).limit(limit + 1)
    return session.scalars(query.where(EvaluationSet.id < after) if after else query).all()


def has_set_name(session: Session, project_id: str, name: str) -> bool:
    """Return whether an evaluation set of the project has this name."""
    query = select(EvaluationSet.id).where(EvaluationSet.project_id == project_id, EvaluationSet.name == name)
    return session.scalar(query) is not None


def find_existing_sets(session: Session, project_id: str, ids: Sequence[str]) -> set[str]:
    """Return those of the ids that are ids of evaluation sets of the project."""
    query = select(EvaluationSet.id).where(EvaluationSet.project_id == project_id, EvaluationSet.id.in_(ids))
    return set(session.scalars(query))


def insert_items(session: Session, set_id: str, texts: Sequence[str]) -> None:
    """Insert the texts as the items of the set. The position of an item is its index, from 0."""
    for start in range(0, len(texts), ITEMS_PER_INSERT):
        part = texts[start : start + ITEMS_PER_INSERT]
        session.execute(
            insert(EvaluationItem),
            [{"set_id": set_id, "place": start + n, "text": text} for n, text in enumerate(part)],
        )


def stream_items(session: Session, set_ids: Sequence[str]) -> Iterator[EvaluationItem]:
    """Yield the items of these sets, set by set, in the order in which they were uploaded."""
    query = select(EvaluationItem).where(EvaluationItem.set_id.in_(set_ids))
    yield from session.scalars(query.order_by(EvaluationItem.set_id, EvaluationItem.place))


def insert_matches(session: Session, rows: list[dict]) -> None:
    """Insert matches that all have the same keys."""
    if rows:
        session.execute(insert(Match), rows)


def delete_matches(session: Session, maintenance_job_id: str) -> None:
    """Delete the matches of the decontamination: a new attempt searches all rows again."""
    session.execute(delete(Match).where(Match.maintenance_job_id == maintenance_job_id))


def list_matches(session: Session, maintenance_job_id: str, limit: int, after: int) -> Sequence[Match]:
    """Return the matches of the decontamination with an id above `after`, in the order of the rows."""
    query = select(Match).where(Match.maintenance_job_id == maintenance_job_id, Match.id > after).order_by(Match.id)
    return session.scalars(query.limit(limit + 1)).all()


def stream_strongest_matches(session: Session, maintenance_job_id: str) -> Iterator[Match]:
    """Yield the best match of each record: n-grams before embeddings, then the higher score."""
    query = select(Match).where(Match.maintenance_job_id == maintenance_job_id)
    # An n-gram match shows the text that was copied. An embedding only says that two texts have a similar meaning.
    ordered = query.order_by(Match.record_id, (Match.kind == "embedding"), Match.score.desc(), Match.id)
    yield from session.scalars(ordered.ext(distinct_on(Match.record_id)))


def load_kind(session: Session, id: str) -> str | None:
    """Return the kind of the maintenance job; None where the job was deleted."""
    return session.scalar(select(MaintenanceJob.kind).where(MaintenanceJob.id == id))
