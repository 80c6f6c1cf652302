"""The columns that every long job has (status, lease, stop reason), and the tables of events and workers."""

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import BigInteger, CheckConstraint, ColumnElement, Identity, Index, MetaData, Text, func
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.errors import AppError


class Table(DeclarativeBase):
    """The base class of all tables: the names of their constraints, and the SQL types of Python types."""

    # A migration that changes a constraint needs its name; without a convention the database would choose it.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: TIMESTAMP(timezone=True), dict: JSONB, list: JSONB, str: Text}


GENERATION, EXPORTS, FINETUNING, SCORINGS = "generation", "exports", "finetuning", "scoring"

STATES = ("queued", "running", "pausing", "paused", "cancelling", "succeeded", "failed", "cancelled")
ENDED = frozenset({"succeeded", "failed", "cancelled"})

# The drawn form is docs/states.md. pausing and paused are for runs and judgements only.
TRANSITIONS: dict[str, frozenset[str]] = {
    "queued": frozenset({"running", "paused", "cancelled", "failed"}),
    "running": frozenset({"succeeded", "failed", "queued", "pausing", "cancelling", "cancelled"}),
    "pausing": frozenset({"paused", "running", "cancelling", "succeeded", "failed"}),
    "paused": frozenset({"running", "queued", "cancelled"}),
    "cancelling": frozenset({"cancelled", "succeeded", "failed"}),
    "succeeded": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}


class Job:
    """The columns of a job's state. Change `status` by `move` only, with the row locked.

    The class variables tell other rooms about a table of jobs, so that they need not import its class.
    """

    # The queue whose workers take the jobs of this table.
    queue_name: ClassVar[str]
    # Whether its jobs add rows to the pool of their dataset, remove rows, or replace vectors.
    changes_pool: ClassVar[bool] = False
    # Whether its rows keep their dataset from being deleted, even when the jobs have ended.
    keeps_dataset: ClassVar[bool] = False

    status: Mapped[str] = mapped_column(default="queued")
    stop_reason: Mapped[str | None]
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    # Why the job waits, and its position: `jobs.queue_position` sets it for a view. It is no column.
    queue: ClassVar[Any] = None

    @classmethod
    def excludes_other_jobs(cls) -> ColumnElement[bool] | None:
        """Return the condition of jobs that let no other job change the pool of their dataset; None: no job does."""
        return None

    @property
    def ended(self) -> bool:
        """Whether the job has ended. A job that has ended never changes its status again."""
        return self.status in ENDED

    def move(self, to: str, stop_reason: str | None = None, error: str | None = None) -> None:
        """Take one transition of the state machine.

        Args:
            to: The next status.
            stop_reason: Why the job has ended; needed for a status that ends it.
            error: What was wrong and what to do, for people.

        Raises:
            AppError: A 409 for a transition that the state machine does not have.
            ValueError: The job would end without a `stop_reason`.
        """
        if to not in TRANSITIONS[self.status]:
            raise AppError(409, "illegal-transition", f"{self.id} is {self.status} and can't become {to}.")
        if to in ENDED and stop_reason is None:
            raise ValueError(f"{self.id} can't end as {to} without a stop_reason")
        self.status, self.error = to, error
        if to == "running" and self.started_at is None:
            # Not now(), which is the start of the transaction: it may lie before a wait for the row's lock.
            self.started_at = func.clock_timestamp()
        if to in ENDED:
            self.stop_reason, self.finished_at = stop_reason, func.clock_timestamp()


def job_tables() -> list[type[Job]]:
    """Return the tables of jobs of all slices, in the order of their names."""
    # app/tables/__init__.py has imported all of them. A registry that slices fill would be incomplete in a process
    # that imports few slices: the worker of fine-tunes would then delete the folders of running scorings (ADR 25).
    tables = [mapper.class_ for mapper in Table.registry.mappers if issubclass(mapper.class_, Job)]
    return sorted(tables, key=lambda table: table.__tablename__)


def status_check() -> CheckConstraint:
    """Return the constraint that the column `status` has one of STATES. Each table needs a constraint of its own."""
    return CheckConstraint(f"status IN {STATES}", name="status")


class Lease:
    """The worker that owns the row, and until when, by the database's clock.

    Each claim increments `lease_token`. A former owner has an older token, and its writes are refused.
    """

    lease_token: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    attempt: Mapped[int] = mapped_column(default=0, server_default="0")


class LeasedJob(Job, Lease):
    """A job that one worker performs from its claim to its end, again if need be."""

    # A failed attempt is tried again from this time on.
    retry_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]


class Worker(Table):
    """A worker process, the queues that it takes jobs from, and how many jobs it runs at once (`slots`)."""

    __tablename__ = "workers"
    id: Mapped[str] = mapped_column(primary_key=True)
    queues: Mapped[list]
    slots: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Event(Table):
    """One line of a job's log: the list and the SSE stream are two views of it. `seq` grows over all jobs."""

    __tablename__ = "events"
    seq: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    subject_id: Mapped[str]
    type: Mapped[str]
    data: Mapped[dict]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    __table_args__ = (Index(None, "subject_id", "seq"),)
