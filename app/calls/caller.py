"""The kernel's `ask`, backed by the ledger and a teacher: look up, reserve, call, keep; or try again."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from app import config
from app.calls import ledger
from app.calls.ledger_writer import LedgerWriter
from app.calls.open_calls import OpenCalls
from app.calls.rate_limiter import Permit, RateLimiter
from app.calls.unknown_refusals import UnknownRefusals
from app.config import LOCAL_PROTOCOL, TeacherConfig
from app.jobs.leases import Claim
from app.providers.teacher import Endpoint, LocalModel, Teacher, complete, with_thought_allowance
from app.synth.prices import Prices
from app.synth.reply_forms import ReplyForm
from app.synth.teacher_errors import TeacherRefused, TryAgain
from app.synth.types import CallFailed, CallsEnded, Prompt, Reply


class TeacherUnavailable(Exception):
    """The teacher failed too often in a row; the unit of work waits for a better time."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often a call is tried, and when again. `random` gives numbers from [0, 1); `sleep` waits so many seconds."""

    max_failures: int = 6
    max_throttled: int = 60
    first_delay_seconds: float = 0.5
    longest_delay_seconds: float = 60.0
    random: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep

    def gives_up(self, failures: int, throttled: int) -> bool:
        return failures >= self.max_failures or throttled >= self.max_throttled

    def delay_seconds(self, failures: int, requested: float | None) -> float:
        """Until the next try: what the server asked for and a little, or full jitter under a doubling bound."""
        if requested is not None:
            return requested + self.random() * (0.25 + 0.1 * requested)
        return self.random() * min(self.longest_delay_seconds, self.first_delay_seconds * 2**failures)


@dataclass(frozen=True)
class TeacherCaller:
    """Calls teachers for one unit of work. `teachers`: who answers, under the names that prompts use for them.

    `owner_id`: the job; its id is part of each completion's key. `ended`: why calls have ended for good, if they have.
    """

    account_id: str
    owner_id: str
    claim: Claim
    teachers: Mapping[str, Teacher]
    limiters: Mapping[str, RateLimiter]
    writer: LedgerWriter
    deferred: bool = False
    retry: RetryPolicy = RetryPolicy()
    ended: list[CallsEnded] = field(default_factory=list)
    refusals: UnknownRefusals = field(default_factory=UnknownRefusals)
    open_calls: OpenCalls = field(default_factory=OpenCalls)

    async def __call__(self, prompt: Prompt) -> Reply:
        try:
            with self.open_calls.track():
                return await self._answer(prompt)
        except CallsEnded as error:
            self.ended.append(error)
            raise

    async def _answer(self, prompt: Prompt) -> Reply:
        # Before the request is keyed and its worst case reserved: the thought is paid for, too.
        prompt = with_thought_allowance(prompt, self.teachers[prompt.by].endpoint)
        call = self._call(prompt)
        if self.deferred:
            return await self._register(call)
        failures = throttled = 0
        while True:
            try:
                async with self.limiters[prompt.by].permit(call.worst_tokens) as permit:
                    begun = await self.writer.book(ledger.Begin(call, self.claim))
                    if isinstance(begun, Reply):
                        return begun
                    return await self._try(call, begun, prompt, permit)
            except ledger.BudgetContention:
                await self.writer.wait_for_budget()
            except TeacherRefused as error:
                if error.is_certain or self.refusals.add(call.teacher, call.key):
                    raise
                raise CallFailed(error.stop_reason, str(error)) from error
            except TryAgain as error:
                failures, throttled = failures + (not error.throttled), throttled + error.throttled
                if self.retry.gives_up(failures, throttled):
                    raise TeacherUnavailable(str(error)) from error
                await self.retry.sleep(self.retry.delay_seconds(failures + throttled, error.after))

    async def _register(self, call: ledger.Call) -> Reply:
        """The answer, if it is here; otherwise the call goes out with the next remote batch."""
        try:
            return await self.writer.book(ledger.Begin(call, self.claim))
        except ledger.BudgetContention as error:
            # What is with the teacher must be answered first.
            raise ledger.Deferred(call.key) from error

    def price_share(self, by: str) -> Decimal:
        """What a call costs of its price: less in a remote batch."""
        return config.teachers()[self.teachers[by].endpoint.name].batch_price_share if self.deferred else Decimal(1)

    def _call(self, prompt: Prompt) -> ledger.Call:
        teacher = self.teachers[prompt.by]
        endpoint, request = teacher.endpoint, teacher.request(prompt)
        tokens, dollars = endpoint.prices.times(self.price_share(prompt.by)).worst_case(prompt)
        return ledger.Call(
            account_id=self.account_id,
            unit_id=self.claim.id,
            step=prompt.step,
            operation=prompt.operation,
            teacher=endpoint.name,
            model=endpoint.model,
            key=ledger.key_of(self.owner_id, self.claim.id, prompt.position, endpoint.address, request),
            request=request,
            worst_tokens=tokens,
            worst_usd=dollars,
            deferred=self.deferred,
        )

    async def _try(self, call: ledger.Call, tries: int, prompt: Prompt, permit: Permit) -> Reply:
        try:
            served = await complete(self.teachers[prompt.by], prompt)
        except TryAgain as error:
            permit.outcome = "slow" if error.throttled else "timeout" if error.timeout else "failed"
            permit.after = error.after or 0.0
            await self.writer.book(ledger.GiveUp(call.key, tries, error.paid is None))
            raise
        except BaseException as error:
            # Cancelled in flight: the answer may be under way and billed. Refused: nothing was served.
            unknown = isinstance(error, asyncio.CancelledError)
            await asyncio.shield(self.writer.book(ledger.GiveUp(call.key, tries, unknown)))
            raise
        self.refusals.clear(call.teacher)
        usage = served.reply.usage
        permit.outcome, permit.used = "ok", usage.prompt + usage.completion
        # Another call may go while this one is booked.
        self.limiters[prompt.by].give_back(permit)
        prices = self.teachers[prompt.by].endpoint.prices
        paid = ledger.Paid(
            served.reply, served.model, served.usage_estimated, prices.cost(usage), prices.thought_cost(usage)
        )
        await asyncio.shield(self.writer.book(ledger.Settle(call.key, tries, paid)))
        return replace(served.reply, id=call.key)


def endpoint(configured: TeacherConfig, replies: ReplyForm) -> Endpoint:
    """A configured teacher, with its key and prices, as it is to be called."""
    cached = configured.prompt_price if configured.cached_price is None else configured.cached_price
    return Endpoint(
        name=configured.name,
        base_url=configured.base_url,
        model=configured.model,
        api_key=configured.api_key(),
        prices=Prices(configured.prompt_price, cached, configured.completion_price),
        in_flight=configured.in_flight,
        requests_per_minute=configured.requests_per_minute,
        tokens_per_minute=configured.tokens_per_minute,
        timeout_seconds=configured.timeout_seconds,
        replies=replies,
        protocol=configured.protocol,
        function=configured.function,
        local_model=_local_model(configured),
    )


def _local_model(configured: TeacherConfig) -> LocalModel | None:
    if configured.protocol != LOCAL_PROTOCOL:
        return None
    model = config.base_models()[configured.model]
    return LocalModel(model.kind, model.path or model.hub or model.gguf, model.revision)
