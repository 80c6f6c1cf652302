"""The kernel's `ask`, backed by the ledger and a teacher: look up, reserve, call, keep; or try again."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from decimal import Decimal

from sqlalchemy.exc import SQLAlchemyError

from app import config
from app.config import TeacherConfig
from app.leases import Claim
from app.providers.prices import Prices
from app.providers.teacher import Endpoint, Teacher, TryAgain
from app.runs import ledger
from app.runs.limits import Limits, Permit
from app.synth.reply_forms import ReplyForm
from app.synth.types import CallsEnded, Prompt, Reply

MOST_TRIES, MOST_THROTTLED = 6, 60
FIRST_DELAY, LONGEST_DELAY = 0.5, 60.0
CROWDED_SECONDS = 1.0
# Entries wait so long for each other, which is nothing beside a teacher's call; and so long for the database.
GATHER_SECONDS, MOST_AT_ONCE, AGAIN_SECONDS = 0.03, 200, 1.0

log = logging.getLogger(__name__)


class TeacherUnavailable(Exception):
    """The teacher failed too often in a row; the batch waits for a better time."""


class Books:
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


@dataclass(frozen=True)
class Asking:
    """Asks on behalf of one batch. `teachers`: who answers, under the names that prompts use for them."""

    run_id: str
    claim: Claim
    teachers: Mapping[str, Teacher]
    limits: Mapping[str, Limits]
    books: Books
    deferred: bool = False
    # Why calls have ended for good, if they have.
    ended: list[CallsEnded] = field(default_factory=list)

    async def __call__(self, prompt: Prompt) -> Reply:
        try:
            return await self._ask(prompt)
        except CallsEnded as error:
            self.ended.append(error)
            raise

    async def _ask(self, prompt: Prompt) -> Reply:
        call = self._call(prompt)
        if self.deferred:
            return await self._register(call)
        failures = throttled = 0
        while True:
            try:
                async with self.limits[prompt.by].permit(call.worst_tokens) as permit:
                    begun = await self.books.book(ledger.Begin(call, self.claim))
                    if isinstance(begun, Reply):
                        return begun
                    return await self._try(call, begun, prompt, permit)
            except ledger.Crowded:
                await self.books.room()
            except TryAgain as error:
                failures, throttled = failures + (not error.throttled), throttled + error.throttled
                if failures >= MOST_TRIES or throttled >= MOST_THROTTLED:
                    raise TeacherUnavailable(str(error)) from error
                await asyncio.sleep(delay(failures + throttled, error.after))

    async def _register(self, call: ledger.Call) -> Reply:
        """The answer, if it is here; otherwise the call goes out with the next remote batch."""
        try:
            return await self.books.book(ledger.Begin(call, self.claim))
        except ledger.Crowded as error:
            # What is out must come home first.
            raise ledger.Deferred(call.key) from error

    def price_share(self, by: str) -> Decimal:
        """What a call costs of its price: less in a remote batch."""
        return config.teachers()[self.teachers[by].endpoint.name].batch_price_share if self.deferred else Decimal(1)

    def _call(self, prompt: Prompt) -> ledger.Call:
        teacher = self.teachers[prompt.by]
        endpoint, request = teacher.endpoint, teacher.request(prompt)
        tokens, dollars = endpoint.prices.times(self.price_share(prompt.by)).worst(prompt)
        return ledger.Call(
            run_id=self.run_id,
            batch_id=self.claim.id,
            step=prompt.step,
            operation=prompt.operation,
            teacher=endpoint.name,
            model=endpoint.model,
            key=ledger.key_of(self.run_id, self.claim.id, prompt.position, endpoint.base_url, request),
            request=request,
            worst_tokens=tokens,
            worst_usd=dollars,
            deferred=self.deferred,
        )

    async def _try(self, call: ledger.Call, tries: int, prompt: Prompt, permit: Permit) -> Reply:
        try:
            served = await self.teachers[prompt.by].complete(prompt)
        except TryAgain as error:
            permit.outcome = "slow" if error.throttled else "timeout" if error.timeout else "failed"
            permit.after = error.after or 0.0
            await self.books.book(ledger.GiveUp(call.key, tries, error.paid is None))
            raise
        except BaseException as error:
            # Cancelled in flight: the answer may be under way and billed. Refused: nothing was served.
            unknown = isinstance(error, asyncio.CancelledError)
            await asyncio.shield(self.books.book(ledger.GiveUp(call.key, tries, unknown)))
            raise
        usage = served.reply.usage
        permit.outcome, permit.used = "ok", usage.prompt + usage.completion
        # Another call may go while this one is booked.
        self.limits[prompt.by].give_back(permit)
        cost = self.teachers[prompt.by].endpoint.prices.cost(usage)
        paid = ledger.Paid(served.reply, served.model, served.usage_estimated, cost)
        await asyncio.shield(self.books.book(ledger.Settle(call.key, tries, paid)))
        return replace(served.reply, id=call.key)


def delay(failures: int, wish: float | None) -> float:
    """Seconds until the next try: the server's wish and a little, or full jitter under a doubling bound."""
    if wish is not None:
        return wish + random.uniform(0, 0.25 + 0.1 * wish)
    return random.uniform(0, min(LONGEST_DELAY, FIRST_DELAY * 2**failures))


def endpoint(found: TeacherConfig, replies: ReplyForm) -> Endpoint:
    """A configured teacher, with its key and prices, as it is to be asked."""
    cached = found.prompt_price if found.cached_price is None else found.cached_price
    return Endpoint(
        name=found.name,
        base_url=found.base_url,
        model=found.model,
        api_key=found.api_key(),
        prices=Prices(found.prompt_price, cached, found.completion_price),
        in_flight=found.in_flight,
        requests_per_minute=found.requests_per_minute,
        tokens_per_minute=found.tokens_per_minute,
        timeout_seconds=found.timeout_seconds,
        replies=replies,
    )
