"""Posts the ledger entries of many calls together, in one transaction and by one thread.

All workers of a job wait for the row of its account, so one transaction for each call would be too slow.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy.exc import SQLAlchemyError

from app.calls import ledger
from app.calls.ledger_entries import AccountStopped, Entry, Reserve
from app.persistence.db import TransactionTimedOut
from app.synth.types import CallsEnded, Reply

# A worker is not notified when another worker releases a reservation, so a waiting call is tried again after this time.
CONTENTION_SECONDS = 1.0
# How long the first entry waits for others. A teacher's call takes seconds, so the delay does not count beside it.
GATHER_SECONDS = 0.03
# Entries of one transaction: while it runs, all other workers of the job wait for the account's row.
MAX_ENTRIES = 200
# Postgres restarts in a few seconds. Each try waits for the timeout of the connection, too.
RETRY_SECONDS = 1.0

log = logging.getLogger(__name__)

PendingEntry = tuple[Entry, asyncio.Future]


class LedgerWriter:
    """Posts the entries of one account for one event loop; entries that come at about the same time go together.

    An answer that was paid for is always posted: while the database can't be reached, the posting is repeated.
    """

    def __init__(self, account_id: str):
        self.account_id = account_id
        self._entries: list[PendingEntry] = []
        self._task: asyncio.Task | None = None
        self._contenders: deque[asyncio.Future] = deque()
        # A thread of its own: in the default executor a posting would wait behind tasks that wait for a pool's lock.
        self._thread = ThreadPoolExecutor(1, "ledger")

    async def wait_for_budget(self) -> None:
        """Wait, first come first served, until a reservation may have been released, at most CONTENTION_SECONDS."""
        future = asyncio.get_running_loop().create_future()
        self._contenders.append(future)
        await asyncio.wait([future], timeout=CONTENTION_SECONDS)
        future.cancel()

    async def post(self, entry: Entry) -> Reply | int | None:
        """Post the entry.

        Returns:
            The result of `ledger.post` for the entry. An exception in its place is raised.

        Raises:
            SQLAlchemyError: The database can't be reached, and the entry is a Reserve. Other entries wait for it.
        """
        future = asyncio.get_running_loop().create_future()
        self._entries.append((entry, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._post_all())
        # Shielded: a caller that is cancelled stops waiting, and the entry is posted all the same.
        return await asyncio.shield(future)

    async def close(self) -> None:
        """Wait until all entries are posted, and end the thread."""
        while self._task is not None and not self._task.done():
            await self._task
        self._thread.shutdown(wait=False)

    async def _post_all(self) -> None:
        while self._entries:
            await asyncio.sleep(GATHER_SECONDS)
            pending, self._entries = self._entries[:MAX_ENTRIES], self._entries[MAX_ENTRIES:]
            try:
                results = await self._post_together([entry for entry, _ in pending])
            except SQLAlchemyError as error:
                await self._postpone(pending, error)
                continue
            for (_, future), result in zip(pending, results, strict=True):
                _resolve(future, result)
            released = sum(not isinstance(entry, Reserve) for entry, _ in pending)
            has_ended = any(isinstance(result, AccountStopped | CallsEnded) for result in results)
            # A released reservation may leave room for more than one call, so two are woken for each. When the account
            # takes no more calls, all are woken, and their next reservation is refused.
            self._wake_contenders(len(self._contenders) if has_ended else 2 * released)

    async def _post_together(self, entries: Sequence[Entry]) -> list[Reply | int | Exception | None]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, ledger.post, self.account_id, entries)

    def _wake_contenders(self, count: int) -> None:
        while self._contenders and count > 0:
            future = self._contenders.popleft()
            if not future.done():
                future.set_result(None)
                count -= 1

    async def _postpone(self, pending: Sequence[PendingEntry], error: Exception) -> None:
        """Keep the entries for a later posting, but fail reservations: no call begins without the database."""
        if isinstance(error, TransactionTimedOut):
            # The database can be reached: this process was too slow, and nothing was posted. Post all of them again.
            self._entries = [*pending, *self._entries]
            return
        answers = [(entry, future) for entry, future in pending if not isinstance(entry, Reserve)]
        for entry, future in pending:
            if isinstance(entry, Reserve):
                _resolve(future, error)
        self._entries = answers + self._entries
        if answers:
            log.warning(
                "The database can't be reached; %d answers wait to be posted, and are tried again: %s",
                len(answers),
                error,
            )
            await asyncio.sleep(RETRY_SECONDS)


def _resolve(future: asyncio.Future, result: Reply | int | Exception | None) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
        # Read once, so that asyncio does not log an exception that a cancelled caller no longer reads.
        future.exception()
    else:
        future.set_result(result)
