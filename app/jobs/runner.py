"""The one way in which a long job is worked on: claim, heartbeat, cancel, retry, end."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import func, or_, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.jobs import event_log
from app.jobs.kinds import Explanation, JobKind
from app.jobs.leases import Claim, Heartbeat, LeaseLost, claim, extend, fenced, free, heartbeat, lock_free, release
from app.jobs.outcomes import CANCELLED, discard_files, move, record, worker_lost
from app.jobs.retry import Outcome
from app.persistence.db import transaction

log = logging.getLogger(__name__)

WAIT_SECONDS = 1.0
STOPPING = Explanation("worker_stopping", "The worker was told to end.")

Result = TypeVar("Result")


class JobCancelled(Exception):
    """The job's cancel was requested. Let it through."""


class WorkerStopping(Exception):
    """This worker was told to end. Let it through: the job is queued again, and the attempt does not count."""


class RunningJob:
    """An attempt at a job, for the code that performs it."""

    def __init__(self, kind: JobKind, claim: Claim, beat: Heartbeat, shutdown: threading.Event):
        self.kind, self.claim, self.id = kind, claim, claim.id
        self._beat, self._shutdown = beat, shutdown

    def check(self) -> None:
        """Call it at each step. Raises what ends the attempt: LeaseLost, JobCancelled or WorkerStopping."""
        if self._beat.lost.is_set():
            raise LeaseLost(self.id)
        if self._beat.cancelling.is_set():
            raise JobCancelled(self.id)
        if self._shutdown.is_set():
            raise WorkerStopping(self.id)

    def fence(self, session: Session) -> Any:
        """The job's row, locked for this transaction: nothing is written without it.

        Raises LeaseLost or JobCancelled.
        """
        row = fenced(session, self.claim)
        if row.status == "cancelling":
            raise JobCancelled(self.id)
        return row

    @contextmanager
    def transaction(self) -> Iterator[tuple[Session, Any]]:
        """A transaction with the job's row fenced."""
        with transaction() as session:
            yield session, self.fence(session)

    def progress(self, session: Session, row, **counts: object) -> None:
        event_log.emit(session, row, "progress", **counts)

    def succeed(self, session: Session, row) -> None:
        """End the fenced row."""
        release(row)
        move(session, row, "succeeded", "completed")

    def extend(self) -> None:
        """Extend the lease now, before a long step without a look. Raises LeaseLost."""
        extend(self.claim)

    def retry_until_database_is_back(self, action: Callable[..., Result], *args: object) -> Result:
        """Run a short transaction, when the database is there: a training of hours outlives a restart of it."""
        while True:
            try:
                return action(*args)
            except OperationalError as error:
                log.warning("%s: the database is away, the work goes on: %s", self.id, error)
                if self._shutdown.wait(WAIT_SECONDS):
                    raise


def work(kind: JobKind, id: str, *tools: object, shutdown: threading.Event | None = None) -> None:
    """Make an attempt at a job, unless another worker does. Call it from a thread that lives until it is done.

    A second call for the same job finds nothing to claim. `shutdown` is set when this worker is to end.
    """
    shutdown = shutdown or threading.Event()
    lease = None if shutdown.is_set() else _claim(kind, id)
    if lease is None:
        return
    with heartbeat(lease) as beat:
        job = RunningJob(kind, lease, beat, shutdown)
        try:
            _attempt(job, tools)
        except LeaseLost:
            log.warning("%s has another owner now; this worker lets go", id)
            _clean_up_late(kind, id)


def _claim(kind: JobKind, id: str) -> Claim | None:
    table = kind.table
    query = select(table).where(table.id == id, *kind.rows, _claimable(table))
    with transaction() as session:
        row = lock_free(session, query)
        if row is None:
            return None
        if row.status == "running":
            record(session, kind, row, Outcome.WORKER_LOST, worker_lost(row.attempt))
            if row.ended:
                return None
        kind.reset(session, row)
        row.retry_at = None
        move(session, row, "running")
        return claim(session, row)


def _claimable(table: type):
    due = or_(table.retry_at.is_(None), table.retry_at <= func.clock_timestamp())
    return or_(table.status == "queued", table.status == "running") & free(table) & due


def waiting(session: Session, kind: JobKind) -> list[str]:
    """Ids of jobs that a worker could claim now, oldest first."""
    table = kind.table
    return list(session.scalars(select(table.id).where(*kind.rows, _claimable(table)).order_by(table.id)))


def _attempt(job: RunningJob, tools: tuple) -> None:
    """Perform the job, and record how it ended. Raises LeaseLost."""
    try:
        job.kind.perform(job, *tools)
    except LeaseLost:
        raise
    except JobCancelled:
        _end(job, Outcome.CANCELLED, CANCELLED)
    except WorkerStopping:
        _end(job, Outcome.WORKER_STOPPING, STOPPING)
    except Exception as error:
        log.exception("%s failed", job.id)
        why = job.kind.explained(error)
        _end(job, Outcome.FINAL_FAULT if why.final else Outcome.FAULT, why)


def _end(job: RunningJob, outcome: Outcome, why: Explanation) -> None:
    job.retry_until_database_is_back(_record, job, outcome, why)


def _record(job: RunningJob, outcome: Outcome, why: Explanation) -> None:
    with transaction() as session:
        record(session, job.kind, fenced(session, job.claim), outcome, why)


def _clean_up_late(kind: JobKind, id: str) -> None:
    """The job was ended while this worker still wrote files: they go now. Those of a new owner stay."""
    with transaction() as session:
        row = session.get(kind.table, id)
        if row is None or row.status in ("cancelled", "failed"):
            discard_files(kind, id)
