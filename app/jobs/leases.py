"""Leases: which worker owns a row, and until when. Claims, heartbeats and fencing tokens.

A worker claims a row for some seconds, extends the lease while it lives, and writes its results only while the row
still has the token of its claim (a fencing token: Kleppmann 2016, "How to do distributed locking"). When a worker dies
its lease expires. Only the database's clock counts, so that clocks of workers may differ.

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
# A cancel must reach the worker soon: a job that is cancelled has 5 seconds to end.
BEAT_SECONDS = 1.0


class LeaseLost(Exception):
    """Another worker owns the row, or the row has ended. Stop the work and write nothing."""


@dataclass(frozen=True)
class Claim:
    """A worker's claim on a row.

    Attributes:
        table: The table of the row.
        id: The id of the row.
        token: The fencing token. A later claim on the row has a greater one.
        attempt: The number of the attempt that the claim begins, from 1.
    """

    table: type
    id: str
    token: int
    attempt: int


def seconds_from_now(seconds: float):
    """Return the SQL expression of the database's time in `seconds`; negative seconds lie in the past."""
    # clock_timestamp() and not now(), which is the start of the transaction and stands still while it waits for a lock.
    return func.clock_timestamp() + text(f"interval '{float(seconds)} seconds'")


def is_unclaimed(table: type):
    """Return the SQL condition that no worker has a valid lease on the row."""
    return or_(table.lease_expires_at.is_(None), table.lease_expires_at < func.clock_timestamp())


def lock_first_unlocked(session: Session, query: Select):
    """Lock and return the first row of the query that no other transaction has locked; None: there is none."""
    return session.scalar(query.with_for_update(key_share=True, skip_locked=True))


def claim_row(session: Session, row) -> Claim:
    """Claim a row that the caller has locked and whose condition `is_unclaimed` holds."""
    # It never goes back, so that each former owner has a smaller token, and its writes are refused.
    row.lease_token += 1
    row.attempt += 1
    row.lease_owner = OWNER
    row.lease_expires_at = seconds_from_now(config.settings().lease_seconds)
    session.flush()
    return Claim(type(row), row.id, row.lease_token, row.attempt)


def _has_token(claim: Claim):
    """The conditions that the row still belongs to the claim."""
    table = claim.table
    return (table.id == claim.id, table.lease_token == claim.token, table.lease_owner.is_not(None))


def extend(claim: Claim) -> str:
    """Extend the lease and return the row's status.

    Raises:
        LeaseLost: The row has another owner, or none.
    """
    table = claim.table
    expires = {"lease_expires_at": seconds_from_now(config.settings().lease_seconds)}
    with transaction() as session:
        status = session.scalar(update(table).where(*_has_token(claim)).values(expires).returning(table.status))
    if status is None:
        raise LeaseLost(claim.id)
    return status


def read_status(claim: Claim) -> str:
    """Return the status of the claimed row.

    Raises:
        LeaseLost: The row has another owner, or none.
    """
    with transaction() as session:
        status = session.scalar(select(claim.table.status).where(*_has_token(claim)))
    if status is None:
        raise LeaseLost(claim.id)
    return status


def extend_all(claims: Sequence[Claim]) -> set[str]:
    """Extend claims of one table in one statement, and return the ids of the rows that still belong to them."""
    if not claims:
        return set()
    # One statement: a run may have hundreds of batches in flight, and a transaction for each would be as many commits.
    table = claims[0].table
    has_token = tuple_(table.id, table.lease_token).in_([(claim.id, claim.token) for claim in claims])
    with transaction() as session:
        extended = (
            update(table)
            .where(has_token, table.lease_owner.is_not(None))
            .values(lease_expires_at=seconds_from_now(config.settings().lease_seconds))
            .returning(table.id)
            .execution_options(synchronize_session=False)
        )
        return set(session.scalars(extended))


def lock_claimed_row(session: Session, claim: Claim):
    """Lock the claimed row for this transaction and return it, read anew.

    Every write of a worker goes through this check, so that a worker that lost its lease changes nothing.

    Raises:
        LeaseLost: The row has another owner, or none.
    """
    query = select(claim.table).where(*_has_token(claim)).with_for_update(key_share=True)
    row = session.scalar(query.execution_options(populate_existing=True))
    if row is None:
        raise LeaseLost(claim.id)
    return row


def release_lease(row) -> None:
    """End the lease of a row that the caller has locked with `lock_claimed_row`."""
    # The token stays: the next claim needs a greater one.
    row.lease_owner = row.lease_expires_at = None


class Heartbeat:
    """Reads the claimed row every second and extends its lease, in a thread of its own.

    Attributes:
        lost: Set when the row has another owner; it stays set.
        cancelling: Set when the row's cancel was requested; it stays set.
    """

    def __init__(self, claim: Claim, clock: Callable[[], float] = time.monotonic):
        self.lost, self.cancelling = threading.Event(), threading.Event()
        self._claim, self._clock = claim, clock
        self._extended_at = clock()

    def beat(self) -> None:
        """Read the row once, and extend the lease if a quarter of it has passed. A database error is only logged."""
        now = self._clock()
        # A quarter: two or three beats may fail before the lease expires.
        due = now - self._extended_at >= config.settings().lease_seconds / 4
        try:
            status = extend(self._claim) if due else read_status(self._claim)
        except LeaseLost:
            self.lost.set()
            return
        except SQLAlchemyError as error:
            log.warning("the lease of %s could not be checked, and is checked again: %s", self._claim.id, error)
            return
        if due:
            self._extended_at = now
        if status == "cancelling":
            self.cancelling.set()

    def run(self, stop: threading.Event) -> None:
        """Beat until `stop` is set or the lease is lost."""
        while not stop.wait(BEAT_SECONDS) and not self.lost.is_set():
            self.beat()


@contextmanager
def heartbeat(claim: Claim) -> Iterator[Heartbeat]:
    """Extend the lease while the block runs; the block reads the heartbeat's events."""
    beat, stop = Heartbeat(claim), threading.Event()
    thread = threading.Thread(target=beat.run, args=(stop,), name=f"lease-{claim.id}", daemon=True)
    thread.start()
    try:
        yield beat
    finally:
        stop.set()
        # Not for ever: a beat may hang in a connection to a database that does not answer.
        thread.join(timeout=5)


@contextmanager
def hold_lease(claim: Claim) -> Iterator[Heartbeat]:
    """Extend the lease while the block runs, then release it. A lost lease ends the block with a log message only."""
    with heartbeat(claim) as beat:
        try:
            try:
                yield beat
            finally:
                with transaction() as session:
                    release_lease(lock_claimed_row(session, claim))
        except LeaseLost:
            log.warning("%s has another owner now; this worker stops its work on it", claim.id)
