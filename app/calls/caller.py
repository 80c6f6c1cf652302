"""The kernel's `ask`, backed by the ledger and a teacher: look up, reserve, call, keep; or try again."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from app import config
from app.calls import ledger
from app.calls.ledger_writer import LedgerWriter
from app.calls.rate_limiter import Permit, RateLimiter
from app.config import TeacherConfig
from app.jobs.leases import Claim
from app.providers.teacher import Endpoint, Teacher, TryAgain
from app.synth.prices import Prices
from app.synth.reply_forms import ReplyForm
from app.synth.types import CallsEnded, Prompt, Reply

MOST_TRIES, MOST_THROTTLED = 6, 60
FIRST_DELAY, LONGEST_DELAY = 0.5, 60.0


class TeacherUnavailable(Exception):
    """The teacher failed too often in a row; the batch waits for a better time."""


@dataclass(frozen=True)
class TeacherCaller:
    """Asks on behalf of one batch. `teachers`: who answers, under the names that prompts use for them."""

    run_id: str
    claim: Claim
    teachers: Mapping[str, Teacher]
    limits: Mapping[str, RateLimiter]
    books: LedgerWriter
    deferred: bool = False
    # Waits for the seconds between two tries.
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
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
            except ledger.BudgetContention:
                await self.books.room()
            except TryAgain as error:
                failures, throttled = failures + (not error.throttled), throttled + error.throttled
                if failures >= MOST_TRIES or throttled >= MOST_THROTTLED:
                    raise TeacherUnavailable(str(error)) from error
                await self.sleep(delay(failures + throttled, error.after))

    async def _register(self, call: ledger.Call) -> Reply:
        """The answer, if it is here; otherwise the call goes out with the next remote batch."""
        try:
            return await self.books.book(ledger.Begin(call, self.claim))
        except ledger.BudgetContention as error:
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
