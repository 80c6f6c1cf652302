"""An account pays for the teacher calls of one job. Every completion is stored before it is used."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Numeric, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.jobs import Lease, Table

MONEY = Numeric(18, 9)


class Account(Table):
    """The ceilings of a job, and what its calls have cost.

    `requests`, the tokens and `cost_usd` are the sums of answered calls, which are certain. `lost_*` counts calls whose
    answer never came, and `held_*` is the part of the ceilings that they hold. `reserved_*` is the worst case of the
    calls in flight.
    """

    __tablename__ = "accounts"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    # The replies belong to the data of this dataset, and are deleted with it.
    dataset_id: Mapped[str | None] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    # The job: its type (run, judgement) and its id.
    owner_type: Mapped[str]
    owner_id: Mapped[str]
    # Whether it takes new calls. The job sets it in the transaction that changes the job's own status.
    state: Mapped[str] = mapped_column(default="open")
    max_requests: Mapped[int | None]
    max_tokens: Mapped[int | None] = mapped_column(BigInteger)
    max_usd: Mapped[Decimal | None] = mapped_column(MONEY)
    simulated: Mapped[bool] = mapped_column(default=False)
    requests: Mapped[int] = mapped_column(default=0)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    cached_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    completion_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    # The part of the completion's tokens and dollars that went into thoughts.
    thought_tokens: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    thought_usd: Mapped[Decimal] = mapped_column(MONEY, default=Decimal(0), server_default="0")
    # The highest excess of an answer over its worst case, with a margin: each further call may take so much more.
    excess_tokens: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    excess_usd: Mapped[Decimal] = mapped_column(MONEY, default=Decimal(0), server_default="0")
    cost_usd: Mapped[Decimal] = mapped_column(MONEY, default=Decimal(0))
    lost_requests: Mapped[int] = mapped_column(default=0)
    held_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    held_usd: Mapped[Decimal] = mapped_column(MONEY, default=Decimal(0))
    reserved_requests: Mapped[int] = mapped_column(default=0)
    reserved_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    reserved_usd: Mapped[Decimal] = mapped_column(MONEY, default=Decimal(0))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        CheckConstraint("state IN ('open', 'ending', 'stopped')", name="state"),
        Index(None, "project_id", "id"),
        Index(None, "dataset_id"),
        Index(None, "owner_id", unique=True),
    )


class Completion(Table):
    """One request to a teacher, tried once or more. `waiting` (for a remote batch) and `sent` hold a reservation.

    `done` has an answer, once for ever. `answers`: tries that were answered and paid for; `lost_tries`: those whose
    answer never came.
    """

    __tablename__ = "completions"
    key: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    # The unit of work that needs the answer, for example a batch of a run.
    unit_id: Mapped[str]
    step: Mapped[str]
    operation: Mapped[str | None]
    status: Mapped[str]
    teacher: Mapped[str]
    model: Mapped[str]
    request: Mapped[dict]
    text: Mapped[str | None]
    # What the model thought, and the text as it came where that has the markup of a thought.
    thought: Mapped[str | None]
    raw_text: Mapped[str | None]
    # The names of the repairs that its JSON needed.
    repairs: Mapped[list] = mapped_column(default=list, server_default=text("'[]'"))
    refusal: Mapped[str | None]
    finish_reason: Mapped[str | None]
    served_model: Mapped[str | None]
    simulated: Mapped[bool] = mapped_column(default=False)
    tries: Mapped[int] = mapped_column(default=1)
    answers: Mapped[int] = mapped_column(default=0, server_default="0")
    lost_tries: Mapped[int] = mapped_column(default=0, server_default="0")
    reserved_tokens: Mapped[int] = mapped_column(BigInteger)
    reserved_usd: Mapped[Decimal] = mapped_column(MONEY)
    prompt_tokens: Mapped[int] = mapped_column(default=0)
    cached_tokens: Mapped[int] = mapped_column(default=0)
    completion_tokens: Mapped[int] = mapped_column(default=0)
    thought_tokens: Mapped[int] = mapped_column(default=0, server_default="0")
    thought_usd: Mapped[Decimal] = mapped_column(MONEY, default=Decimal(0), server_default="0")
    usage_estimated: Mapped[bool] = mapped_column(default=False)
    # The remote batch with which it was sent, until its answer is stored.
    remote_batch_id: Mapped[str | None]
    cost_usd: Mapped[Decimal] = mapped_column(MONEY, default=Decimal(0))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
    __table_args__ = (
        CheckConstraint("status IN ('waiting', 'sent', 'done', 'failed')", name="status"),
        Index(None, "account_id", "created_at"),
        Index(None, "unit_id"),
        Index(None, "remote_batch_id", postgresql_where=text("remote_batch_id IS NOT NULL")),
    )


class LostCall(Table):
    """One try of a request whose answer never came: it may have been served and billed.

    `unsettled`: it holds its worst case. `priced`: the request was answered at another try, and it holds what that
    answer cost. `released`: the operator let go of the hold, and it holds its estimate.
    """

    __tablename__ = "lost_calls"
    key: Mapped[str] = mapped_column(ForeignKey("completions.key", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    step: Mapped[str]
    operation: Mapped[str | None]
    teacher: Mapped[str]
    state: Mapped[str]
    worst_tokens: Mapped[int] = mapped_column(BigInteger)
    worst_usd: Mapped[Decimal] = mapped_column(MONEY)
    held_tokens: Mapped[int] = mapped_column(BigInteger)
    held_usd: Mapped[Decimal] = mapped_column(MONEY)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (
        CheckConstraint("state IN ('unsettled', 'priced', 'released')", name="state"),
        Index(None, "account_id", "created_at"),
    )


class RemoteBatch(Table, Lease):
    """Calls of an account that went out together through a teacher's Files and Batches endpoints.

    `preparing`: the teacher may have it or not, since a worker can die while it sends the batch. The metadata of the
    batch has its id, by which the next worker finds it at the teacher.
    """

    __tablename__ = "remote_batches"
    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
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
        Index(None, "account_id", "status"),
    )
