"""A snapshot is an export that never changes: which rows, in which forms and splits, and the digests of its files."""

from sqlalchemy import BigInteger, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.jobs import EXPORTS, LeasedJob, Table, status_check


class Snapshot(Table, LeasedJob):
    """A job that exports rows of a dataset as files. The files never change once it has succeeded."""

    __tablename__ = "snapshots"
    queue_name = EXPORTS
    keeps_dataset = True
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"))
    spec: Mapped[dict]
    # Rows with a higher `pool_position` are not part of the snapshot, even if they are in the pool when its files are
    # written.
    through_pool_position: Mapped[int] = mapped_column(BigInteger)
    rows: Mapped[int | None]
    splits: Mapped[dict | None]
    files: Mapped[list | None]
    digest: Mapped[str | None]
    simulated: Mapped[bool | None]
    __table_args__ = (status_check(), Index(None, "project_id", "id"), Index(None, "status"))
