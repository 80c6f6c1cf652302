"""Entries booked together: a process that stood still for a moment loses no call."""

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy import text

from app.calls.ledger_entries import Entry, PostFailure, Reserve
from app.calls.ledger_writer import LedgerWriter
from app.persistence.db import TransactionTimedOut, brief_transaction, transaction
from tests.waiting import until


def backend_is_gone(pid: int) -> bool:
    with transaction() as session:
        return session.scalar(text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid"), {"pid": pid}) == 0


def test_a_brief_transaction_that_stood_still_says_so_and_the_next_one_works(database):
    with pytest.raises(TransactionTimedOut), brief_transaction() as session:
        session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 20"))
        pid = session.scalar(text("SELECT pg_backend_pid()"))
        until(lambda: backend_is_gone(pid))
        session.execute(text("SELECT 1"))
    with brief_transaction() as session:
        assert session.scalar(text("SELECT 1")) == 1


class SlowWriter(LedgerWriter):
    """Stands still at its first booking; then each entry is answered with its place among all that came."""

    def __init__(self) -> None:
        super().__init__("acc_1")
        self.attempts: list[int] = []

    async def _post_together(self, entries: Sequence[Entry]) -> list:
        self.attempts.append(len(entries))
        if len(self.attempts) == 1:
            raise TransactionTimedOut("SELECT 1", None, Exception("too slow"))
        return list(range(len(entries)))


def test_calls_and_answers_of_a_booking_that_stood_still_are_booked_again():
    async def post_all() -> tuple[list, list[int]]:
        writer = SlowWriter()
        entries = [Reserve(None, None), PostFailure("k", 1, unknown=False)]
        results = await asyncio.gather(*(writer.post(entry) for entry in entries))
        await writer.close()
        return results, writer.attempts

    assert asyncio.run(post_all()) == ([0, 1], [2, 2])
