"""Who works on a row, and for how long: claims, heartbeats and fencing, on the database's clock alone.

A worker claims a row for some seconds, extends the lease while it lives, and writes its results back only
while the row still carries its token. A worker that died is noticed when its lease runs out.

Rows are locked `FOR NO KEY UPDATE`: rows that refer to them can be inserted meanwhile.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Select, func, or_, select, text, tuple_, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import config
from app.persistence.db import transaction

log = logging.getLogger(__name__)

OWNER = f"{socket.gethostname()}:{os.getpid()}"
BEAT_SECONDS = 1.0


class LeaseLost(Exception):
    """Another worker has taken the row, or it has ended. Drop the work: its owner goes on."""


@dataclass(frozen=True)
class Claim:
    table: type
    id: str
    token: int
    attempt: int


def in_seconds(seconds: float):
    return func.clock_timestamp() + text(f"interval '{float(seconds)} seconds'")


def free(table: type):
    """The condition that nobody holds the row now."""
    return or_(table.lease_expires_at.is_(None), table.lease_expires_at < func.clock_timestamp())


def lock_free(session: Session, query: Select):
    """The first row of the query, locked; None when there is none, or another transaction has it locked."""
    return session.scalar(query.with_for_update(key_share=True, skip_locked=True))


def claim(session: Session, row) -> Claim:
    """Take a row that the caller holds locked (`FOR UPDATE`) and found free."""
    row.lease_token += 1
    row.attempt += 1
    row.lease_owner = OWNER
    row.lease_expires_at = in_seconds(config.settings().lease_seconds)
    session.flush()
    return Claim(type(row), row.id, row.lease_token, row.attempt)


def _held(claim: Claim):
    table = claim.table
    return (table.id == claim.id, table.lease_token == claim.token, table.lease_owner.is_not(None))


def extend(claim: Claim) -> str:
    """Extend the lease; the row's status. Raises LeaseLost when the row has another owner."""
    table = claim.table
    expires = {"lease_expires_at": in_seconds(config.settings().lease_seconds)}
    with transaction() as session:
        status = session.scalar(update(table).where(*_held(claim)).values(expires).returning(table.status))
    if status is None:
        raise LeaseLost(claim.id)
    return status


def read_status(claim: Claim) -> str:
    """The status of the claimed row. Raises LeaseLost when it has another owner."""
    with transaction() as session:
        status = session.scalar(select(claim.table.status).where(*_held(claim)))
    if status is None:
        raise LeaseLost(claim.id)
    return status


def extend_all(claims: Sequence[Claim]) -> set[str]:
    """Extend claims of one table together; the ids of those that are still ours."""
    if not claims:
        return set()
    table = claims[0].table
    mine = tuple_(table.id, table.lease_token).in_([(claim.id, claim.token) for claim in claims])
    with transaction() as session:
        extended = (
            update(table)
            .where(mine, table.lease_owner.is_not(None))
            .values(lease_expires_at=in_seconds(config.settings().lease_seconds))
            .returning(table.id)
            .execution_options(synchronize_session=False)
        )
        return set(session.scalars(extended))


def fenced(session: Session, claim: Claim):
    """The claimed row, locked for this transaction. Raises LeaseLost when it has another owner."""
    query = select(claim.table).where(*_held(claim)).with_for_update(key_share=True)
    row = session.scalar(query.execution_options(populate_existing=True))
    if row is None:
        raise LeaseLost(claim.id)
    return row


def release(row) -> None:
    """Give the row back; its holder must have it fenced."""
    row.lease_owner = row.lease_expires_at = None


class Heartbeat:
    """Looks at the claimed row every second and extends its lease, from a thread of its own.

    `lost`: the row has another owner. `cancelling`: the row's cancel was requested. Both stay set.
    """

    def __init__(self, claim: Claim, clock: Callable[[], float] = time.monotonic):
        self.lost, self.cancelling = threading.Event(), threading.Event()
        self._claim, self._clock = claim, clock
        self._extended_at = clock()

    def beat(self) -> None:
        """Look once. A database that is away is logged, and asked again the next time."""
        now = self._clock()
        due = now - self._extended_at >= config.settings().lease_seconds / 4
        try:
            status = extend(self._claim) if due else read_status(self._claim)
        except LeaseLost:
            self.lost.set()
            return
        except SQLAlchemyError as error:
            log.warning("the row %s could not be looked at: %s", self._claim.id, error)
            return
        if due:
            self._extended_at = now
        if status == "cancelling":
            self.cancelling.set()

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(BEAT_SECONDS) and not self.lost.is_set():
            self.beat()


@contextmanager
def heartbeat(claim: Claim) -> Iterator[Heartbeat]:
    """Keep the lease while the block runs."""
    beat, stop = Heartbeat(claim), threading.Event()
    thread = threading.Thread(target=beat.run, args=(stop,), name=f"lease-{claim.id}", daemon=True)
    thread.start()
    try:
        yield beat
    finally:
        stop.set()
        thread.join(timeout=5)


@contextmanager
def held(claim: Claim) -> Iterator[Heartbeat]:
    """Keep the lease while the block runs, then give the row back. A lost lease ends the block quietly."""
    with heartbeat(claim) as beat:
        try:
            try:
                yield beat
            finally:
                with transaction() as session:
                    release(fenced(session, claim))
        except LeaseLost:
            log.warning("%s has another owner now; this worker lets go", claim.id)
