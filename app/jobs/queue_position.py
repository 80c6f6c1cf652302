"""Why a queued job waits: its place among the jobs of its queue, the workers that take them, and its next attempt."""

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
class QueuePlace:
    """`position` counts the waiting jobs of the queue from 1, oldest first; `running`: those being worked on."""

    name: str
    position: int
    running: int
    workers: int
    reason: Reason
    message: str
    retry_at: datetime | None = None


@dataclass(frozen=True)
class _Queue:
    """A queue as it stands: the ids that wait, oldest first; the jobs that are worked on; the workers that live.

    `slots`: how many jobs these workers work on at once.
    """

    waiting: list[str]
    running: int
    workers: int
    slots: int


def add_places(session: Session, rows: Iterable[JobRow]) -> list[JobRow]:
    """The rows, each queued one with its `queue` filled in. Rows in other states are left as they are."""
    rows = list(rows)
    queues: dict[str, _Queue] = {}
    for row in rows:
        if row.status == "queued":
            name = row.queue_name
            if name not in queues:
                queues[name] = _read(session, name)
            row.queue = _place(session, name, queues[name], row)
    return rows


def add_place(session: Session, row: JobRow) -> JobRow:
    return add_places(session, [row])[0]


def _read(session: Session, name: str) -> _Queue:
    waiting = session.execute(_jobs(name, "queued", due=True).order_by("created_at", "id")).all()
    running = session.scalar(select(func.count()).select_from(_jobs(name, "running", "cancelling").subquery()))
    living = select(func.count(), func.coalesce(func.sum(Worker.slots), 0))
    workers, slots = session.execute(living.where(presence.alive(), Worker.queues.contains([name]))).one()
    return _Queue([row.id for row in waiting], running, workers, slots)


def _jobs(name: str, *states: str, due: bool = False) -> CompoundSelect:
    """Jobs of the queue in these states. `due`: without those that wait for another attempt, which stand in no way."""
    queries = []
    for table in (table for table in job_tables() if table.queue_name == name):
        query = select(table.id, table.created_at).where(table.status.in_(states))
        if due and hasattr(table, "retry_at"):
            query = query.where(or_(table.retry_at.is_(None), table.retry_at <= func.clock_timestamp()))
        queries.append(query)
    return union_all(*queries)


def _place(session: Session, name: str, state: _Queue, row: Job) -> QueuePlace:
    position = state.waiting.index(row.id) + 1 if row.id in state.waiting else len(state.waiting) + 1
    retry_at = _future_retry(session, row)
    reason = _reason(position, state, retry_at)
    message = _message(reason, position, state, name, retry_at)
    return QueuePlace(name, position, state.running, state.workers, reason, message, retry_at)


def _future_retry(session: Session, row: Job) -> datetime | None:
    retry_at = getattr(row, "retry_at", None)
    return retry_at if retry_at is not None and retry_at > session.scalar(select(func.clock_timestamp())) else None


def _reason(position: int, state: _Queue, retry_at: datetime | None) -> Reason:
    if state.workers == 0:
        return "no_worker"
    if retry_at is not None:
        return "waits_for_retry"
    return "others_first" if position > 1 or state.running >= state.slots else "next"


def _message(reason: Reason, position: int, state: _Queue, name: str, retry_at: datetime | None) -> str:
    if reason == "no_worker":
        return f"No worker of the queue {name} is alive; start one, and the job begins."
    if reason == "waits_for_retry":
        return f"An attempt failed; the next one begins after {retry_at:%H:%M:%S} UTC."
    if reason == "others_first":
        return f"Jobs before it: {position - 1} waiting, {state.running} being worked on by {state.workers} workers."
    return "It is the next one that a worker takes."
