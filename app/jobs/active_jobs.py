"""Queries over the jobs of all tables: which of them have not ended, and which protect a dataset from deletion."""

from collections.abc import Collection, Iterable

from sqlalchemy import Select, select, union_all
from sqlalchemy.orm import Session

from app.tables.jobs import ENDED, Job, job_tables


def find_active(session: Session, ids: Collection[str]) -> set[str]:
    """Return those of the ids that belong to jobs which have not ended."""
    return set(_ids(session, (_active(table).where(table.id.in_(ids)) for table in job_tables())))


def list_active_on_dataset(session: Session, dataset_id: str) -> list[str]:
    """Return the ids of the jobs on the dataset that have not ended.

    Jobs of a table that protects the dataset (`keeps_dataset`) are left out: `keeps_dataset` finds those, ended or not.
    """
    tables = (table for table in _dataset_job_tables() if not table.keeps_dataset)
    return _ids(session, (_active_on(table, dataset_id) for table in tables))


def list_active_that_change_pool(session: Session, dataset_id: str) -> list[str]:
    """Return the ids of the jobs that have not ended and that may change the pool of the dataset."""
    tables = (table for table in _dataset_job_tables() if table.changes_pool)
    return _ids(session, (_active_on(table, dataset_id) for table in tables))


def find_exclusive(session: Session, dataset_id: str) -> str | None:
    """Return the id of a job that has not ended and lets no other job change the dataset's pool; None: no job does."""
    conditions = ((table, table.excludes_other_jobs()) for table in _dataset_job_tables())
    queries = (_active_on(table, dataset_id).where(only) for table, only in conditions if only is not None)
    return next(iter(_ids(session, queries)), None)


def keeps_dataset(session: Session, dataset_id: str) -> bool:
    """Whether a job, ended or not, protects the dataset from deletion, for example a snapshot."""
    tables = (table for table in _dataset_job_tables() if table.keeps_dataset)
    return bool(_ids(session, (select(table.id).where(table.dataset_id == dataset_id).limit(1) for table in tables)))


def _dataset_job_tables() -> list[type[Job]]:
    return [table for table in job_tables() if hasattr(table, "dataset_id")]


def _active_on(table: type[Job], dataset_id: str) -> Select:
    return _active(table).where(table.dataset_id == dataset_id)


def _active(table: type[Job]) -> Select:
    return select(table.id).where(table.status.not_in(ENDED))


def _ids(session: Session, queries: Iterable[Select]) -> list[str]:
    """The ids that the queries select, in one statement."""
    # One statement reads all tables as of one moment.
    return list(session.scalars(union_all(*queries)))
