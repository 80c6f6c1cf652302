"""The runner: performs every kind of long job in the same way: claim, heartbeat, cancel, retry, end."""

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
from app.jobs.leases import (
    Claim,
    Heartbeat,
    LeaseLost,
    claim_row,
    extend,
    heartbeat,
    is_unclaimed,
    lock_claimed_row,
    lock_first_unlocked,
    release_lease,
)
from app.jobs.outcomes import CANCELLED, change_status, discard_files, explain_lost_worker, record_outcome
from app.jobs.retry import Outcome
from app.persistence.db import transaction

log = logging.getLogger(__name__)

WAIT_SECONDS = 1.0
STOPPING = Explanation("worker_stopping", "The worker was told to end.")

Result = TypeVar("Result")


class JobCancelled(Exception):
    """The job's cancel was requested. Do not catch it: the runner ends the attempt."""


class WorkerStopping(Exception):
    """This worker must end. Do not catch it: the runner queues the job again, and the attempt does not count."""


class RunningJob:
    """An attempt at a job, for the code that performs it.

    Attributes:
        kind: The kind of the job.
        claim: The claim of this attempt.
        id: The id of the job.
    """

    def __init__(self, kind: JobKind, claim: Claim, beat: Heartbeat, shutdown: threading.Event):
        self.kind, self.claim, self.id = kind, claim, claim.id
        self._beat, self._shutdown = beat, shutdown

    def check(self) -> None:
        """Check whether the attempt must end. Call it at each step, at least once a second.

        Raises:
            LeaseLost: Another worker owns the job.
            JobCancelled: The job's cancel was requested.
            WorkerStopping: This worker must end.
        """
        if self._beat.lost.is_set():
            raise LeaseLost(self.id)
        if self._beat.cancelling.is_set():
            raise JobCancelled(self.id)
        if self._shutdown.is_set():
            raise WorkerStopping(self.id)

    def fence(self, session: Session) -> Any:
        """Lock the job's row for this transaction and return it. Call it in every transaction that writes.

        Raises:
            LeaseLost: Another worker owns the job.
            JobCancelled: The job's cancel was requested.
        """
        # A cancel may have come since the last check: nothing of a cancelled job is written any more.
        row = lock_claimed_row(session, self.claim)
        if row.status == "cancelling":
            raise JobCancelled(self.id)
        return row

    @contextmanager
    def transaction(self) -> Iterator[tuple[Session, Any]]:
        """Run the block in a transaction in which the job's row is locked."""
        with transaction() as session:
            yield session, self.fence(session)

    def progress(self, session: Session, row, **counts: object) -> None:
        """Write an event `progress` with these counts to the job's log. The row is locked."""
        event_log.emit(session, row, "progress", **counts)

    def succeed(self, session: Session, row) -> None:
        """End the lease of the locked row, and the job as `succeeded`."""
        # In one transaction with the last results: a job never shows `succeeded` without them.
        release_lease(row)
        change_status(session, row, "succeeded", "completed")

    def extend(self) -> None:
        """Extend the lease now, before a long step without a check.

        Raises:
            LeaseLost: Another worker owns the job.
        """
        extend(self.claim)

    def retry_until_database_is_back(self, action: Callable[..., Result], *args: object) -> Result:
        """Call `action(*args)`, a short transaction, and repeat it while the database can't be reached.

        A training of hours must survive a restart of the database.

        Returns:
            What the action returns.

        Raises:
            OperationalError: The database can't be reached, and this worker must end.
        """
        while True:
            try:
                return action(*args)
            except OperationalError as error:
                log.warning(
                    "%s: the database can't be reached; the work goes on, and the write is tried again: %s",
                    self.id,
                    error,
                )
                if self._shutdown.wait(WAIT_SECONDS):
                    raise


def work(kind: JobKind, id: str, *tools: object, shutdown: threading.Event | None = None) -> None:
    """Make an attempt at a job, unless another worker has claimed it.

    Args:
        kind: The kind of the job.
        id: The id of the job.
        *tools: Further arguments of the kind's `perform`.
        shutdown: Set when this worker must end.

    The calling thread must live until the end of the attempt, since a child process dies with its thread. A second call
    for the same job finds nothing to claim.
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
            log.warning("%s has another owner now; this worker stops its work on it", id)
            _clean_up_late(kind, id)


def _claim(kind: JobKind, id: str) -> Claim | None:
    table = kind.table
    query = select(table).where(table.id == id, *kind.rows, _claimable(table))
    with transaction() as session:
        row = lock_first_unlocked(session, query)
        if row is None:
            return None
        # Its lease has run out: the attempt of the worker that held it ends first, so that it counts.
        if row.status == "running":
            record_outcome(session, kind, row, Outcome.WORKER_LOST, explain_lost_worker(row.attempt))
            if row.ended:
                return None
        # In the transaction of the claim: an attempt never begins with rows that an earlier attempt has left.
        kind.reset(session, row)
        row.retry_at = None
        change_status(session, row, "running")
        return claim_row(session, row)


def _claimable(table: type):
    due = or_(table.retry_at.is_(None), table.retry_at <= func.clock_timestamp())
    return or_(table.status == "queued", table.status == "running") & is_unclaimed(table) & due


def list_waiting(session: Session, kind: JobKind) -> list[str]:
    """Return the ids of the jobs of the kind that a worker could claim now, oldest first."""
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
        why = job.kind.explain_error(error)
        _end(job, Outcome.FINAL_FAULT if why.final else Outcome.FAULT, why)


# The outcome is recorded by a loop of its own: an attempt whose outcome was not written would be made again in full.
def _end(job: RunningJob, outcome: Outcome, why: Explanation) -> None:
    job.retry_until_database_is_back(_record, job, outcome, why)


def _record(job: RunningJob, outcome: Outcome, why: Explanation) -> None:
    with transaction() as session:
        record_outcome(session, job.kind, lock_claimed_row(session, job.claim), outcome, why)


def _clean_up_late(kind: JobKind, id: str) -> None:
    """Remove files that this worker wrote after the job had ended. The files of a new owner stay."""
    with transaction() as session:
        row = session.get(kind.table, id)
        if row is None or row.status in ("cancelled", "failed"):
            discard_files(kind, id)
