"""The heartbeat on a real row, with a clock of the test's: what one look at the row says."""

import pytest
from sqlalchemy import select, update

from app import config
from app.jobs.leases import Heartbeat, claim_row
from app.persistence.db import transaction
from app.tables.snapshots import Snapshot
from tests.fakes import FakeClock
from tests.jobs.orders import read


@pytest.fixture
def claim(snapshot):
    with transaction() as session:
        row = session.get(Snapshot, snapshot.id)
        row.status = "running"
        return claim_row(session, row)


def test_the_lease_is_extended_after_a_quarter_of_its_time_and_not_before(claim):
    clock = FakeClock()
    beat = Heartbeat(claim, clock)
    first = read(Snapshot, claim.id).lease_expires_at
    beat.beat()
    assert read(Snapshot, claim.id).lease_expires_at == first
    clock.advance(config.settings().lease_seconds / 4)
    beat.beat()
    assert read(Snapshot, claim.id).lease_expires_at > first
    assert not beat.lost.is_set() and not beat.cancelling.is_set()


def test_a_cancel_is_seen_at_the_next_look(claim):
    beat = Heartbeat(claim, FakeClock())
    with transaction() as session:
        session.execute(update(Snapshot).where(Snapshot.id == claim.id).values(status="cancelling"))
    beat.beat()
    assert beat.cancelling.is_set() and not beat.lost.is_set()


def test_a_lease_that_was_taken_away_is_seen_at_the_next_look(claim):
    beat = Heartbeat(claim, FakeClock())
    with transaction() as session:
        row = session.scalar(select(Snapshot).where(Snapshot.id == claim.id))
        row.lease_token += 1
    beat.beat()
    assert beat.lost.is_set()
