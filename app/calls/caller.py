"""Calls a teacher for a prompt: the stored reply is returned, or the call is reserved, made and posted to the ledger.

A `TeacherCaller` is the `ask` that the methods of `app.synth` get (`app.synth.types.Ask`).
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from app import config
from app.calls.ledger_entries import (
    BudgetContention,
    Call,
    CallDeferred,
    PaidReply,
    PostAnswer,
    PostFailure,
    Reserve,
    completion_key,
)
from app.calls.ledger_writer import LedgerWriter
from app.calls.open_calls import OpenCalls
from app.calls.rate_limiter import Permit, RateLimiter
from app.calls.unknown_refusals import UnknownRefusals
from app.jobs.leases import Claim
from app.providers.refused_fields import without_refused_field
from app.providers.request_settings import RequestSettings, with_sampling
from app.providers.teacher import Teacher, complete, with_thought_allowance
from app.synth.teacher_errors import TeacherRefused, TryAgain
from app.synth.types import CallFailed, CallsEnded, Prompt, Reply

# A teacher that refuses a field under each of its names would otherwise be asked for ever, by one name and the other.
MAX_DROPPED_FIELDS = 6


class TeacherUnavailable(Exception):
    """The teacher failed too often in a row; the unit of work is tried again later."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often a call is tried, and how long the caller waits between two tries.

    Attributes:
        max_failures: Failures after which the call is given up, without the throttled ones.
        max_throttled: Throttled tries (the teacher requests fewer calls) after which the call is given up. There are
            more of them, since a throttled try costs nothing and says nothing bad of the teacher.
        first_delay_seconds: The upper bound of the first delay; it doubles with each failure.
        longest_delay_seconds: The greatest upper bound of a delay.
        random: Returns a number from [0, 1).
        sleep: Waits for a number of seconds.
    """

    max_failures: int = 6
    max_throttled: int = 60
    first_delay_seconds: float = 0.5
    longest_delay_seconds: float = 60.0
    random: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep

    def is_exhausted(self, failures: int, throttled: int) -> bool:
        """Whether the call is given up after so many failures and throttled tries."""
        return failures >= self.max_failures or throttled >= self.max_throttled

    def delay_seconds(self, failures: int, requested: float | None) -> float:
        """Return the seconds until the next try.

        Args:
            failures: The number of tries that have failed, throttled ones included.
            requested: The seconds that the server requested, if it did.

        Returns:
            The requested seconds and a little more; else full jitter under a bound that doubles with each failure
            (Brooker 2015, "Exponential Backoff And Jitter", AWS Architecture Blog).
        """
        if requested is not None:
            # A little more than requested: calls that were refused together must not all come back together.
            return requested + self.random() * (0.25 + 0.1 * requested)
        return self.random() * min(self.longest_delay_seconds, self.first_delay_seconds * 2**failures)


@dataclass(frozen=True)
class TeacherCaller:
    """Calls teachers for one unit of work.

    Attributes:
        account_id: The account that pays.
        owner_id: The job. Its id is part of each completion's key.
        claim: The claim on the unit of work; only its holder may make calls.
        teachers: The teachers, by the names that prompts use for them (`Prompt.by`).
        limiters: The rate limiters of the teachers, by the same names.
        writer: Posts to the ledger.
        deferred: Whether calls go out with a remote batch and not by themselves.
        retry: When a call that failed is tried again.
        ended: The errors by which calls have ended for good; empty while calls may be made.
        refusals: The refusals without a known reason, which all callers of a time slice count together.
        open_calls: The calls of a time slice in flight, which the slice can end all at once.
        store_new_settings: Called with the teacher's name, the settings without a field that it refused, and the change
            for people; in a thread.
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
    store_new_settings: Callable[[str, RequestSettings, str], None] = lambda name, settings, change: None

    async def __call__(self, prompt: Prompt) -> Reply:
        """Return the reply to the prompt: the stored one, or that of a new call, which is tried again if it fails.

        Raises:
            CallsEnded: No further call is made: a ceiling was reached, or the job is about to end.
            AccountStopped: The job was paused or cancelled, or has ended.
            CallDeferred: The call waits for a remote batch.
            CircuitOpen: The teacher's circuit breaker is open.
            TeacherUnavailable: The call failed too often.
            TeacherRefused: The teacher refuses all calls, for example because of its key.
            CallFailed: The teacher refuses this prompt, for a reason that is not known.
            LeaseLost: Another worker holds the unit of work.
        """
        try:
            with self.open_calls.track():
                return await self._answer(prompt)
        except CallsEnded as error:
            self.ended.append(error)
            raise

    async def _answer(self, prompt: Prompt) -> Reply:
        # First, since the key and the worst case depend on it: tokens of a thought are billed like those of the answer.
        endpoint = self.teachers[prompt.by].endpoint
        prompt = with_sampling(with_thought_allowance(prompt, endpoint), endpoint.settings)
        call = self._call(prompt)
        if self.deferred:
            return await self._register(call)
        failures = throttled = dropped = 0
        while True:
            try:
                # The permit first, then the reservation: a call that waits for a permit would hold budget of others.
                async with self.limiters[prompt.by].permit(call.worst_tokens, order=self.claim.id) as permit:
                    result = await self.writer.post(Reserve(call, self.claim))
                    if isinstance(result, Reply):
                        return result
                    return await self._try(call, result, prompt, permit)
            except BudgetContention:
                # No failure of the call: the calls in flight cost less than they reserve, so that it may fit soon.
                await self.writer.wait_for_budget()
            except TeacherRefused as error:
                if dropped < MAX_DROPPED_FIELDS and await self._drop_refused_field(prompt, call, error):
                    call, dropped = self._call(prompt), dropped + 1
                    continue
                # One prompt may be at fault: the whole run stops only when the reason is certain, or others fail, too.
                if error.is_certain or self.refusals.add(call.teacher, call.key):
                    raise
                raise CallFailed(error.stop_reason, str(error)) from error
            except TryAgain as error:
                failures, throttled = failures + (not error.throttled), throttled + error.throttled
                if self.retry.is_exhausted(failures, throttled):
                    raise TeacherUnavailable(str(error)) from error
                await self.retry.sleep(self.retry.delay_seconds(failures + throttled, error.after))

    async def _drop_refused_field(self, prompt: Prompt, call: Call, refusal: TeacherRefused) -> bool:
        """Write later requests without the field that the refusal names, and return whether there is such a field."""
        teacher = self.teachers[prompt.by]
        if teacher.request(prompt) != call.request:
            # Another call has dropped the field while this one was in flight.
            return True
        without = without_refused_field(teacher.endpoint.settings, refusal, call.request)
        if without is None:
            return False
        settings, change = without
        endpoint = teacher.endpoint
        # At once: calls that are refused meanwhile find the field dropped, and report nothing.
        teacher.endpoint = replace(endpoint, settings=settings)
        try:
            await asyncio.to_thread(self.store_new_settings, endpoint.name, settings, change)
        except BaseException:
            # Not stored, so the next refusal has to be reported: the database may have been away.
            teacher.endpoint = endpoint
            raise
        return True

    async def _register(self, call: Call) -> Reply:
        """Return the stored answer; otherwise register the call for the next remote batch and raise CallDeferred."""
        try:
            return await self.writer.post(Reserve(call, self.claim))
        except BudgetContention as error:
            # Waiting here would not help: reservations are released when the remote batch is answered, in hours.
            raise CallDeferred(call.key) from error

    def price_share(self, by: str) -> Decimal:
        """Return the share of the normal price that a call costs: less than 1 in a remote batch.

        Args:
            by: The name of the teacher in `teachers`.
        """
        return config.teachers()[self.teachers[by].endpoint.name].batch_price_share if self.deferred else Decimal(1)

    def _call(self, prompt: Prompt) -> Call:
        teacher = self.teachers[prompt.by]
        endpoint, request = teacher.endpoint, teacher.request(prompt)
        tokens, dollars = endpoint.prices.times(self.price_share(prompt.by)).worst_case(prompt)
        return Call(
            account_id=self.account_id,
            unit_id=self.claim.id,
            step=prompt.step,
            operation=prompt.operation,
            teacher=endpoint.name,
            model=endpoint.model,
            key=completion_key(self.owner_id, self.claim.id, prompt.position, endpoint.address, request),
            request=request,
            worst_tokens=tokens,
            worst_usd=dollars,
            deferred=self.deferred,
        )

    async def _try(self, call: Call, tries: int, prompt: Prompt, permit: Permit) -> Reply:
        try:
            served = await complete(self.teachers[prompt.by], prompt)
        except TryAgain as error:
            permit.outcome = "slow" if error.throttled else "timeout" if error.timeout else "failed"
            permit.after = error.after or 0.0
            await self.writer.post(PostFailure(call.key, tries, error.paid is None))
            raise
        except BaseException as error:
            # Cancelled in flight: the answer may be on its way and billed. Refused: the teacher served nothing.
            unknown = isinstance(error, asyncio.CancelledError)
            # Shielded: a second cancel must not keep the end of the try out of the ledger.
            await asyncio.shield(self.writer.post(PostFailure(call.key, tries, unknown)))
            raise
        # An answer proves that the key and the quota are good: what was refused before was the fault of a prompt.
        self.refusals.clear(call.teacher)
        usage = served.reply.usage
        permit.outcome, permit.used = "ok", usage.prompt + usage.completion
        # Before the posting: another call may use the permit while this answer is written to the ledger.
        self.limiters[prompt.by].release(permit)
        prices = self.teachers[prompt.by].endpoint.prices
        paid = PaidReply(
            served.reply, served.model, served.usage_estimated, prices.cost(usage), prices.thought_cost(usage)
        )
        await asyncio.shield(self.writer.post(PostAnswer(call.key, tries, paid)))
        return replace(served.reply, id=call.key)
