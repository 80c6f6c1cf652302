"""Entries of many calls, booked together by one thread."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy.exc import SQLAlchemyError

from app.calls import ledger
from app.persistence.db import StoodStill
from app.synth.types import CallsEnded, Reply

CONTENTION_SECONDS = 1.0
# Entries wait so long for each other, which is nothing beside a teacher's call; and so long for the database.
GATHER_SECONDS, MAX_ENTRIES, RETRY_SECONDS = 0.03, 200, 1.0

log = logging.getLogger(__name__)

Waiting = tuple[ledger.Entry, asyncio.Future]


class LedgerWriter:
    """The ledger of one account for one event loop: entries that come at about the same time are booked together.

    What was paid is booked whatever happens: while the database is away it is tried again.
    """

    def __init__(self, account_id: str):
        self.account_id = account_id
        self._entries: list[Waiting] = []
        self._task: asyncio.Task | None = None
        self._contenders: deque[asyncio.Future] = deque()
        # Its own: what waits for the pool's lock must not hold up what is paid for.
        self._thread = ThreadPoolExecutor(1, "ledger")

    async def wait_for_budget(self) -> None:
        """Wait until a reservation may have been given back: in the order of coming, and never long."""
        future = asyncio.get_running_loop().create_future()
        self._contenders.append(future)
        # Another worker may give one back: then nobody here is told.
        await asyncio.wait([future], timeout=CONTENTION_SECONDS)
        future.cancel()

    async def book(self, entry: ledger.Entry) -> Reply | int | None:
        """What `ledger.book` answers for the entry. Raises what it says."""
        future = asyncio.get_running_loop().create_future()
        self._entries.append((entry, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._book_all())
        # Shielded: who is cancelled no longer waits, and the entry is booked all the same.
        return await asyncio.shield(future)

    async def close(self) -> None:
        """Until all is booked."""
        while self._task is not None and not self._task.done():
            await self._task
        self._thread.shutdown(wait=False)

    async def _book_all(self) -> None:
        while self._entries:
            await asyncio.sleep(GATHER_SECONDS)
            batch, self._entries = self._entries[:MAX_ENTRIES], self._entries[MAX_ENTRIES:]
            try:
                results = await self._book_together([entry for entry, _ in batch])
            except SQLAlchemyError as error:
                await self._retry(batch, error)
                continue
            for (_, future), result in zip(batch, results, strict=True):
                _answer(future, result)
            given_back = sum(not isinstance(entry, ledger.Begin) for entry, _ in batch)
            over = any(isinstance(result, ledger.Stopped | CallsEnded) for result in results)
            self._wake_contenders(len(self._contenders) if over else 2 * given_back)

    async def _book_together(self, entries: Sequence[ledger.Entry]) -> list[Reply | int | Exception | None]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, ledger.book, self.account_id, entries)

    def _wake_contenders(self, count: int) -> None:
        while self._contenders and count > 0:
            future = self._contenders.popleft()
            if not future.done():
                future.set_result(None)
                count -= 1

    async def _retry(self, batch: Sequence[Waiting], error: Exception) -> None:
        """The database is away: nothing new is begun, and answers wait until it is back."""
        if isinstance(error, StoodStill):
            # The database is there: this process was slow, and nothing was booked.
            self._entries = [*batch, *self._entries]
            return
        answers = [(entry, future) for entry, future in batch if not isinstance(entry, ledger.Begin)]
        for entry, future in batch:
            if isinstance(entry, ledger.Begin):
                _answer(future, error)
        self._entries = answers + self._entries
        if answers:
            log.warning("%d answers wait to be booked: %s", len(answers), error)
            await asyncio.sleep(RETRY_SECONDS)


def _answer(future: asyncio.Future, result: Reply | int | Exception | None) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
        # Nobody may be waiting for it any more.
        future.exception()
    else:
        future.set_result(result)
