"""A run plans batches; a batch is a small idempotent unit. The run's account pays for the calls."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.jobs import GENERATION, Job, Lease, Table, status_check


class Run(Table, Job):
    """A job that generates rows until a target, a ceiling or another end is reached."""

    __tablename__ = "runs"
    queue_name = GENERATION
    changes_pool = True
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    # The account pays for the calls and has their ceilings.
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    method: Mapped[str]
    # None for a method that calls no teacher. The judge is the teacher unless the request named another.
    teacher: Mapped[str | None]
    judge: Mapped[str | None]
    options: Mapped[dict]
    seed: Mapped[int] = mapped_column(BigInteger)
    target: Mapped[int]
    max_candidates: Mapped[int | None]
    max_seconds: Mapped[int | None]
    # When too small a share of the newest candidates was accepted, the run ends as saturated.
    saturation_window: Mapped[int] = mapped_column(default=300, server_default="300")
    saturation_share: Mapped[float] = mapped_column(default=0.02, server_default="0.02")
    # direct: each call is made by itself. batch: calls go out in a remote batch, at the teacher's batch price.
    mode: Mapped[str] = mapped_column(default="direct", server_default="direct")
    # Of a preview: the target of the whole run, for which the forecast is computed.
    preview_target: Mapped[int | None]
    # Why the service has paused it, and when it resumes by itself.
    paused_for: Mapped[str | None]
    resume_at: Mapped[datetime | None]
    teacher_gone_since: Mapped[datetime | None]
    # The stop_reason with which the run will end when the calls in flight are answered. No batch is planned meanwhile.
    pending_stop_reason: Mapped[str | None]
    batches_planned: Mapped[int] = mapped_column(default=0)
    # Proposals of batches that are not decided on yet: offered = accepted + rejected + in_flight at every moment.
    in_flight: Mapped[int] = mapped_column(default=0, server_default="0")
    # The positions up to which the plan has drawn from its sources, by the names of the sources.
    cursor: Mapped[dict] = mapped_column(default=dict, server_default=text("'{}'"))
    accepted: Mapped[int] = mapped_column(default=0)
    rejected: Mapped[int] = mapped_column(default=0)
    rejected_by_reason: Mapped[dict] = mapped_column(default=dict)
    # What the newest proposals became (app.runs.health), and the message of a pause that waits for a person.
    health: Mapped[dict] = mapped_column(default=dict, server_default=text("'{}'"))
    __table_args__ = (
        status_check(),
        CheckConstraint("mode IN ('direct', 'batch')", name="mode"),
        Index(None, "project_id", "id"),
        Index(None, "status"),
        Index(None, "dataset_id"),
        Index(None, "account_id", unique=True),
    )


class Batch(Table, Lease):
    """A small idempotent unit of work. `plan` has all that its prompts depend on, so that a second try sends the same.

    It is `waiting` while its calls are with a remote batch.
    """

    __tablename__ = "batches"
    id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    number: Mapped[int]
    status: Mapped[str] = mapped_column(default="pending")
    plan: Mapped[dict | None]
    not_before: Mapped[datetime | None]
    accepted: Mapped[int] = mapped_column(default=0)
    rejected: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
    __table_args__ = (
        CheckConstraint("status IN ('pending', 'leased', 'waiting', 'done', 'failed', 'dropped')", name="status"),
        UniqueConstraint("run_id", "number"),
        Index(None, "run_id", "status"),
    )
