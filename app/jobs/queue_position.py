"""Why a queued job waits: its position in its queue, the workers of the queue, and its next attempt."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeVar

from sqlalchemy import CompoundSelect, func, or_, select, union_all
from sqlalchemy.orm import Session

from app.jobs import presence
from app.tables.jobs import Job, Worker, job_tables

Reason = Literal["waits_for_retry", "no_worker", "others_first", "next"]
JobRow = TypeVar("JobRow", bound=Job)


@dataclass(frozen=True)
class QueuePosition:
    """The position of a queued job.

    Attributes:
        name: The name of the queue.
        position: The position among the waiting jobs, from 1, oldest first.
        running: The number of jobs of the queue that are being worked on.
        workers: The number of workers of the queue that are alive.
        reason: Why the job waits.
        message: The reason as a sentence for people.
        retry_at: When the next attempt begins, if one has failed.
    """

    name: str
    position: int
    running: int
    workers: int
    reason: Reason
    message: str
    retry_at: datetime | None = None


@dataclass(frozen=True)
class _Queue:
    """The state of a queue.

    `waiting`: the ids of the waiting jobs, oldest first; `running`: the number of running jobs; `workers`: the number
    of workers that are alive; `slots`: how many jobs these workers work on at once.
    """

    waiting: list[str]
    running: int
    workers: int
    slots: int


def add_queue_positions(session: Session, rows: Iterable[JobRow]) -> list[JobRow]:
    """Set the attribute `queue` of each queued row and return all rows. Rows in other states are not changed."""
    rows = list(rows)
    # A page of jobs has at most a few queues: each is read once.
    queues: dict[str, _Queue] = {}
    for row in rows:
        if row.status == "queued":
            name = row.queue_name
            if name not in queues:
                queues[name] = _read(session, name)
            row.queue = _find_position(session, name, queues[name], row)
    return rows


def add_queue_position(session: Session, row: JobRow) -> JobRow:
    """Set the attribute `queue` of the row if it is queued, and return the row."""
    return add_queue_positions(session, [row])[0]


def _read(session: Session, name: str) -> _Queue:
    waiting = session.execute(_jobs(name, "queued", due=True).order_by("created_at", "id")).all()
    running = session.scalar(select(func.count()).select_from(_jobs(name, "running", "cancelling").subquery()))
    living = select(func.count(), func.coalesce(func.sum(Worker.slots), 0))
    workers, slots = session.execute(living.where(presence.alive(), Worker.queues.contains([name]))).one()
    return _Queue([row.id for row in waiting], running, workers, slots)


def _jobs(name: str, *states: str, due: bool = False) -> CompoundSelect:
    """Select the jobs of the queue in these states.

    `due`: without jobs that wait for another attempt, since these do not delay the others.
    """
    queries = []
    for table in (table for table in job_tables() if table.queue_name == name):
        query = select(table.id, table.created_at).where(table.status.in_(states))
        if due and hasattr(table, "retry_at"):
            query = query.where(or_(table.retry_at.is_(None), table.retry_at <= func.clock_timestamp()))
        queries.append(query)
    return union_all(*queries)


def _find_position(session: Session, name: str, state: _Queue, row: Job) -> QueuePosition:
    # A job that waits for its next attempt is not among the waiting jobs: it comes after those that can begin now.
    position = state.waiting.index(row.id) + 1 if row.id in state.waiting else len(state.waiting) + 1
    retry_at = _future_retry(session, row)
    reason = _reason(position, state, retry_at)
    message = _message(reason, position, state, name, retry_at)
    return QueuePosition(name, position, state.running, state.workers, reason, message, retry_at)


def _future_retry(session: Session, row: Job) -> datetime | None:
    retry_at = getattr(row, "retry_at", None)
    return retry_at if retry_at is not None and retry_at > session.scalar(select(func.clock_timestamp())) else None


def _reason(position: int, state: _Queue, retry_at: datetime | None) -> Reason:
    # First, since it is the one reason that a person must remove.
    if state.workers == 0:
        return "no_worker"
    if retry_at is not None:
        return "waits_for_retry"
    return "others_first" if position > 1 or state.running >= state.slots else "next"


def _message(reason: Reason, position: int, state: _Queue, name: str, retry_at: datetime | None) -> str:
    if reason == "no_worker":
        return f"No worker of the queue {name} is running. Start one, and the job begins."
    if reason == "waits_for_retry":
        return f"An attempt failed; the next one begins after {retry_at:%H:%M:%S} UTC."
    if reason == "others_first":
        return (
            f"Jobs before it: {position - 1} waiting, {state.running} running. Workers of the queue: {state.workers}."
        )
    return "It is the next one that a worker takes."
