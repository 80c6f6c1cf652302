"""The kernel's `ask`, backed by the ledger and a teacher: look up, reserve, call, keep; or try again."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

from app.config import TeacherConfig
from app.leases import Claim
from app.providers.prices import Prices
from app.providers.teacher import Endpoint, Teacher, TryAgain
from app.runs import ledger
from app.synth.reply_forms import ReplyForm
from app.synth.types import Prompt, Reply

MOST_TRIES, MOST_THROTTLED = 6, 60
FIRST_DELAY, LONGEST_DELAY = 0.5, 60.0
CROWDED_SECONDS = 0.2


class TeacherUnavailable(Exception):
    """The teacher failed too often in a row; the batch waits for a better time."""


@dataclass(frozen=True)
class Asking:
    """Asks on behalf of one batch. `teachers`: who answers, under the names that prompts use for them."""

    run_id: str
    claim: Claim
    teachers: Mapping[str, Teacher]

    async def __call__(self, prompt: Prompt) -> Reply:
        call = self._call(prompt)
        failures = throttled = 0
        while True:
            begun = await self._begin(call)
            if isinstance(begun, Reply):
                return begun
            try:
                return await self._try(call, begun, prompt)
            except TryAgain as error:
                failures, throttled = failures + (not error.throttled), throttled + error.throttled
                if failures >= MOST_TRIES or throttled >= MOST_THROTTLED:
                    raise TeacherUnavailable(str(error)) from error
                await asyncio.sleep(delay(failures + throttled, error.after))

    def _call(self, prompt: Prompt) -> ledger.Call:
        teacher = self.teachers[prompt.by]
        endpoint, request = teacher.endpoint, teacher.request(prompt)
        tokens, dollars = endpoint.prices.worst(prompt)
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
        )

    async def _begin(self, call: ledger.Call) -> Reply | int:
        while True:
            try:
                return await asyncio.to_thread(ledger.begin, call, self.claim)
            except ledger.Crowded:
                await asyncio.sleep(CROWDED_SECONDS)

    async def _try(self, call: ledger.Call, tries: int, prompt: Prompt) -> Reply:
        try:
            served = await self.teachers[prompt.by].complete(prompt)
        except TryAgain as error:
            await asyncio.to_thread(ledger.give_up, call, tries, error.paid is None)
            raise
        except BaseException as error:
            # Cancelled in flight: the answer may be under way and billed. Refused: nothing was served.
            unknown = isinstance(error, asyncio.CancelledError)
            await asyncio.shield(asyncio.to_thread(ledger.give_up, call, tries, unknown))
            raise
        cost = self.teachers[prompt.by].endpoint.prices.cost(served.reply.usage)
        paid = ledger.Paid(served.reply, served.model, served.usage_estimated, cost)
        await asyncio.shield(asyncio.to_thread(ledger.settle, call, tries, paid))
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
        timeout_seconds=found.timeout_seconds,
        replies=replies,
    )
