"""All SQL of snapshots."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.datasets.training_rows import RowFilter
from app.errors import not_found
from app.tables.snapshots import Snapshot


def load_snapshot(session: Session, project_id: str, id: str) -> Snapshot:
    """Return the project's snapshot with this id. Raises a 404 where there is none."""
    row = find_snapshot(session, project_id, id)
    if row is None:
        raise not_found("snapshot", id)
    return row


def find_snapshot(session: Session, project_id: str, id: str) -> Snapshot | None:
    """Return the project's snapshot with this id, or None."""
    return session.scalar(select(Snapshot).where(Snapshot.id == id, Snapshot.project_id == project_id))


def load_snapshot_of_job(session: Session, id: str) -> Snapshot:
    """Return the snapshot of any project, for a job that was created for it."""
    return session.get(Snapshot, id)


def list_snapshots(
    session: Session, project_id: str, dataset_id: str | None, limit: int, after: str | None
) -> Sequence[Snapshot]:
    """Return the project's snapshots, newest first, those with an id below `after`: up to `limit` + 1 rows."""
    # The extra row shows that another page follows (see `page`).
    query = select(Snapshot).where(Snapshot.project_id == project_id).order_by(Snapshot.id.desc()).limit(limit + 1)
    if dataset_id:
        query = query.where(Snapshot.dataset_id == dataset_id)
    return session.scalars(query.where(Snapshot.id < after) if after else query).all()


def freeze_pool(session: Session) -> None:
    """Let all queries of this transaction see the same rows. Call it before the first query.

    Args:
        session: a transaction without a query yet: the isolation level can't change later.
    """
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})


def rows_of_spec(dataset_id: str, spec: dict, through_pool_position: int) -> RowFilter:
    """Return the filter of the rows for a snapshot of this spec, before its mixture and its selection."""
    return RowFilter(
        dataset_id=dataset_id,
        run_id=spec["run_id"],
        include_seeds=spec["include_seeds"],
        # A snapshot that is older than this option has no such key.
        minimum_scores=spec.get("minimum_scores", {}),
        # The pool may have received rows since the snapshot was created.
        through_pool_position=through_pool_position,
    )


def rows_of(snapshot: Snapshot) -> RowFilter:
    """Return the filter of the rows for the snapshot, before its mixture and its selection."""
    return rows_of_spec(snapshot.dataset_id, snapshot.spec, snapshot.through_pool_position)
