"""A run plans batches; a batch buys completions; every completion is kept before it is used."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Numeric, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.jobs import Job, Lease, Table, status_check

MONEY = Numeric(18, 9)


class Run(Table, Job):
    __tablename__ = "runs"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    method: Mapped[str]
    # None for a method that asks nobody; the judge is the teacher unless another one was named.
    teacher: Mapped[str | None]
    judge: Mapped[str | None]
    options: Mapped[dict]
    seed: Mapped[int] = mapped_column(BigInteger)
    target: Mapped[int]
    max_requests: Mapped[int | None]
    max_tokens: Mapped[int | None] = mapped_column(BigInteger)
    max_usd: Mapped[Decimal | None] = mapped_column(MONEY)
    max_candidates: Mapped[int | None]
    max_seconds: Mapped[int | None]
    # When too small a share of the newest candidates was accepted, the run ends as saturated.
    saturation_window: Mapped[int] = mapped_column(default=300, server_default="300")
    saturation_share: Mapped[float] = mapped_column(default=0.02, server_default="0.02")
    simulated: Mapped[bool] = mapped_column(default=False)
    # direct: each call by itself. batch: all that is ready goes out together, at the teacher's batch price.
    mode: Mapped[str] = mapped_column(default="direct", server_default="direct")
    # A first look before the whole: the target that its forecast is for.
    pilot_for: Mapped[int | None]
    # Why it is paused when nobody asked for it, and when it goes on by itself.
    paused_for: Mapped[str | None]
    resume_at: Mapped[datetime | None]
    teacher_gone_since: Mapped[datetime | None]
    # What stops planning while the calls in flight come home: the stop_reason to end with.
    stopping: Mapped[str | None]
    batches_planned: Mapped[int] = mapped_column(default=0)
    # Proposals of batches that are not decided yet.
    in_flight: Mapped[int] = mapped_column(default=0, server_default="0")
    # How far the plan has come in what it draws from, by the names of the sources.
    cursor: Mapped[dict] = mapped_column(default=dict, server_default=text("'{}'"))
    accepted: Mapped[int] = mapped_column(default=0)
    rejected: Mapped[int] = mapped_column(default=0)
    rejected_by_reason: Mapped[dict] = mapped_column(default=dict)
    requests: Mapped[int] = mapped_column(default=0)
    unknown_requests: Mapped[int] = mapped_column(default=0)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    cached_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    completion_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    # Tokens of calls whose answer never arrived, counted at the most they can have been.
    unknown_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    cost_usd: Mapped[Decimal] = mapped_column(MONEY, default=Decimal(0))
    reserved_requests: Mapped[int] = mapped_column(default=0)
    reserved_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    reserved_usd: Mapped[Decimal] = mapped_column(MONEY, default=Decimal(0))
    __table_args__ = (
        status_check(),
        CheckConstraint("mode IN ('direct', 'batch')", name="mode"),
        Index(None, "project_id", "id"),
        Index(None, "status"),
        Index(None, "dataset_id"),
    )


class Batch(Table, Lease):
    """A small idempotent unit. `plan` holds all that shaped its prompts, so that a second try asks the same.

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


class Completion(Table):
    """One teacher call. `waiting` (for a remote batch) and `sent` hold a reservation; `done` is paid, once for ever."""

    __tablename__ = "completions"
    key: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    batch_id: Mapped[str]
    step: Mapped[str]
    operation: Mapped[str | None]
    status: Mapped[str]
    teacher: Mapped[str]
    model: Mapped[str]
    request: Mapped[dict]
    text: Mapped[str | None]
    refusal: Mapped[str | None]
    finish_reason: Mapped[str | None]
    served_model: Mapped[str | None]
    simulated: Mapped[bool] = mapped_column(default=False)
    tries: Mapped[int] = mapped_column(default=1)
    reserved_tokens: Mapped[int] = mapped_column(BigInteger)
    reserved_usd: Mapped[Decimal] = mapped_column(MONEY)
    prompt_tokens: Mapped[int] = mapped_column(default=0)
    cached_tokens: Mapped[int] = mapped_column(default=0)
    completion_tokens: Mapped[int] = mapped_column(default=0)
    unknown_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    usage_estimated: Mapped[bool] = mapped_column(default=False)
    # The remote batch with which it went out, until the answer is here.
    remote_batch_id: Mapped[str | None]
    cost_usd: Mapped[Decimal] = mapped_column(MONEY, default=Decimal(0))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
    __table_args__ = (
        CheckConstraint("status IN ('waiting', 'sent', 'done', 'failed')", name="status"),
        Index(None, "run_id", "created_at"),
        Index(None, "batch_id"),
        Index(None, "remote_batch_id", postgresql_where=text("remote_batch_id IS NOT NULL")),
    )


class RemoteBatch(Table, Lease):
    """Calls of a run that went out together through a teacher's Files and Batches endpoints.

    `preparing`: not known to the teacher yet, or perhaps: its metadata has our id, by which it is found again.
    """

    __tablename__ = "remote_batches"
    id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    teacher: Mapped[str]
    status: Mapped[str]
    remote_id: Mapped[str | None]
    requests: Mapped[int]
    answered: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
    __table_args__ = (
        CheckConstraint("status IN ('preparing', 'submitted', 'ended')", name="status"),
        Index(None, "run_id", "status"),
    )
