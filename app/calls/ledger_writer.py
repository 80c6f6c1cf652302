"""Entries of many calls, booked together by one thread."""

import asyncio
import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy.exc import SQLAlchemyError

from app.calls import ledger
from app.synth.types import CallsEnded

CROWDED_SECONDS = 1.0
# Entries wait so long for each other, which is nothing beside a teacher's call; and so long for the database.
GATHER_SECONDS, MOST_AT_ONCE, AGAIN_SECONDS = 0.03, 200, 1.0

log = logging.getLogger(__name__)


class LedgerWriter:
    """The ledger of one run for one event loop: entries that come at about the same time are booked together.

    What was paid is booked whatever happens: while the database is away it is tried again.
    """

    def __init__(self, run_id: str):
        self.run_id = run_id
        self._waiting: list[tuple[ledger.Entry, asyncio.Future]] = []
        self._working: asyncio.Task | None = None
        self._crowded: deque[asyncio.Future] = deque()
        # Its own: what waits for the pool's lock must not hold up what is paid for.
        self._thread = ThreadPoolExecutor(1, "ledger")

    async def room(self) -> None:
        """Wait until a reservation may have been given back: in the order of asking, and never long."""
        future = asyncio.get_running_loop().create_future()
        self._crowded.append(future)
        # Another worker may give one back: then nobody here is told.
        await asyncio.wait([future], timeout=CROWDED_SECONDS)
        future.cancel()

    async def book(self, entry: ledger.Entry):
        """What `ledger.book` answers for the entry. Raises what it says."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, future))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        # Shielded: who is cancelled no longer waits, and the entry is booked all the same.
        return await asyncio.shield(future)

    async def close(self) -> None:
        """Until all is booked."""
        while self._working is not None and not self._working.done():
            await self._working
        self._thread.shutdown(wait=False)

    async def _work(self) -> None:
        while self._waiting:
            await asyncio.sleep(GATHER_SECONDS)
            some, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
            try:
                booking = (ledger.book, self.run_id, [entry for entry, _ in some])
                found = await asyncio.get_running_loop().run_in_executor(self._thread, *booking)
            except SQLAlchemyError as error:
                await self._later(some, error)
                continue
            for (_, future), one in zip(some, found, strict=True):
                _answer(future, one)
            given_back = sum(not isinstance(entry, ledger.Begin) for entry, _ in some)
            over = any(isinstance(one, ledger.Stopped | CallsEnded) for one in found)
            self._wake(len(self._crowded) if over else 2 * given_back)

    def _wake(self, count: int) -> None:
        while self._crowded and count > 0:
            future = self._crowded.popleft()
            if not future.done():
                future.set_result(None)
                count -= 1

    async def _later(self, some: list[tuple[ledger.Entry, asyncio.Future]], error: Exception) -> None:
        """The database is away: nothing new is begun, and what came home waits until it is back."""
        kept = [(entry, future) for entry, future in some if not isinstance(entry, ledger.Begin)]
        for entry, future in some:
            if isinstance(entry, ledger.Begin):
                _answer(future, error)
        self._waiting = kept + self._waiting
        if kept:
            log.warning("%d answers wait to be booked: %s", len(kept), error)
            await asyncio.sleep(AGAIN_SECONDS)


def _answer(future: asyncio.Future, found) -> None:
    if future.done():
        return
    if isinstance(found, Exception):
        future.set_exception(found)
        # Nobody may be waiting for it any more.
        future.exception()
    else:
        future.set_result(found)
