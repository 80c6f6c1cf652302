"""Who works on a row, and for how long: claims, heartbeats and fencing, on the database's clock alone.

A worker claims a row for some seconds, extends the lease while it lives, and writes its results back only
while the row still carries its token. A worker that died is noticed when its lease runs out.
"""

import logging
import os
import socket
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import func, or_, select, text, tuple_, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import config
from app.db import transaction

log = logging.getLogger(__name__)

OWNER = f"{socket.gethostname()}:{os.getpid()}"


class LeaseLost(Exception):
    """Another worker has taken the row, or it was cancelled. Drop the work: its owner goes on."""


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


def claim(session: Session, row) -> Claim:
    """Take a row that the caller holds locked (`FOR UPDATE`) and found free."""
    row.lease_token += 1
    row.attempt += 1
    row.lease_owner = OWNER
    row.lease_expires_at = in_seconds(config.settings().lease_seconds)
    session.flush()
    return Claim(type(row), row.id, row.lease_token, row.attempt)


def extend(claim: Claim) -> None:
    """Raises LeaseLost when the row has another owner."""
    table = claim.table
    with transaction() as session:
        found = session.execute(
            update(table)
            .where(table.id == claim.id, table.lease_token == claim.token, table.lease_owner.is_not(None))
            .values(lease_expires_at=in_seconds(config.settings().lease_seconds))
        )
    if found.rowcount == 0:
        raise LeaseLost(claim.id)


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
    table = claim.table
    row = session.scalar(select(table).where(table.id == claim.id, table.lease_token == claim.token).with_for_update())
    if row is None or row.lease_owner is None:
        raise LeaseLost(claim.id)
    return row


def release(row) -> None:
    """Give the row back; its holder must have it fenced."""
    row.lease_owner = row.lease_expires_at = None


class Heartbeat:
    """Whether the lease is still ours: `lost` is set by the thread that extends it."""

    def __init__(self):
        self.lost = threading.Event()
        self._stop = threading.Event()

    def run(self, claim: Claim) -> None:
        while not self._stop.wait(config.settings().lease_seconds / 4):
            try:
                extend(claim)
            except LeaseLost:
                self.lost.set()
                return
            except SQLAlchemyError as error:
                log.warning("the lease of %s was not extended: %s", claim.id, error)

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def heartbeat(claim: Claim):
    """Extend the lease every quarter of its time while the block runs."""
    beat = Heartbeat()
    thread = threading.Thread(target=beat.run, args=(claim,), name=f"lease-{claim.id}", daemon=True)
    thread.start()
    try:
        yield beat
    finally:
        beat.stop()
        thread.join(timeout=5)
