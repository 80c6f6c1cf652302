"""The account of a growth's paid calls: hard ceilings, with the worst case of each call reserved before the call."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from app.synth.prices import Prices, max_prompt_tokens
from app.synth.types import CallsEnded, Prompt, Usage


@dataclass(frozen=True)
class Ceilings:
    """The maximum of calls, tokens and dollars of a growth. None is no ceiling; `max_usd` needs prices."""

    max_calls: int | None = None
    max_tokens: int | None = None
    max_usd: Decimal | None = None


class CeilingReached(CallsEnded):
    """The next call could go over a ceiling; `stop_reason` is the ceiling's name."""

    def __init__(self, name: str, limit: object):
        super().__init__(f"the next call could go over {name}={limit}")
        self.stop_reason = name


@dataclass(frozen=True)
class Reservation:
    """The worst case of a call: the bytes of its prompt as tokens, and the `max_tokens` of its reply."""

    by: str
    tokens: int
    usd: Decimal


class CallAccount:
    """Counts calls, tokens and dollars. One event loop uses it.

    A try counts as a call when it is made. Its worst case is reserved until its usage is posted, so that calls in
    flight can't go over a ceiling together.

    Args:
        ceilings: the maximum of all calls together.
        prices: those of `teacher` and `judge`; without an entry a call costs no dollars.
    """

    def __init__(self, ceilings: Ceilings, prices: Mapping[str, Prices]) -> None:
        self.ceilings, self._prices = ceilings, prices
        self.calls = self.tokens = 0
        self.usd = Decimal(0)
        self._reserved_tokens, self._reserved_usd = 0, Decimal(0)
        # One future for each call that waits for room; a lock would serve one of them at a time.
        self._waiting: list[asyncio.Future] = []

    def add(self, calls: int, tokens: int, usd: Decimal) -> None:
        """Count calls of an earlier growth, with their tokens and dollars."""
        self.calls += calls
        self.tokens += tokens
        self.usd += usd

    async def reserve(self, prompt: Prompt) -> Reservation:
        """Reserve the worst case of a call, and count the call. Waits for calls in flight where only they prevent it.

        Raises:
            CeilingReached: even without the calls in flight the call could go over a ceiling.
        """
        worst = self._worst(prompt)
        while not self._fits_beside_calls_in_flight(worst):
            # Calls in flight mostly cost less than they reserve, so their end may make room.
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting
        self.calls += 1
        self._reserved_tokens += worst.tokens
        self._reserved_usd += worst.usd
        return worst

    def post(self, reservation: Reservation, usage: Usage) -> Decimal:
        """Replace the reservation of a call by the usage of its reply, and return its cost in dollars."""
        usd = self._cost(reservation.by, usage)
        self._release(reservation)
        self.add(0, usage.prompt + usage.completion, usd)
        return usd

    def cancel(self, reservation: Reservation, may_be_billed: bool) -> None:
        """End the reservation of a failed try, which is counted at its worst case when it may have been billed."""
        self._release(reservation)
        if may_be_billed:
            self.add(0, reservation.tokens, reservation.usd)

    def _fits_beside_calls_in_flight(self, worst: Reservation) -> bool:
        """Raises CeilingReached when the call does not fit, whatever the calls in flight will have cost."""
        ceilings = self.ceilings
        amounts = (
            ("max_calls", ceilings.max_calls, self.calls + 1, 0),
            ("max_tokens", ceilings.max_tokens, self.tokens + worst.tokens, self._reserved_tokens),
            ("max_usd", ceilings.max_usd, self.usd + worst.usd, self._reserved_usd),
        )
        # Without the calls in flight first: a call that does not fit alone would wait for ever.
        for name, limit, amount, _ in amounts:
            if limit is not None and amount > limit:
                raise CeilingReached(name, limit)
        return all(limit is None or amount + reserved <= limit for _, limit, amount, reserved in amounts)

    def _worst(self, prompt: Prompt) -> Reservation:
        usage = Usage(prompt=max_prompt_tokens(prompt), completion=prompt.max_tokens)
        return Reservation(prompt.by, usage.prompt + usage.completion, self._cost(prompt.by, usage))

    def _cost(self, by: str, usage: Usage) -> Decimal:
        prices = self._prices.get(by)
        return prices.cost(usage) if prices else Decimal(0)

    def _release(self, reservation: Reservation) -> None:
        self._reserved_tokens -= reservation.tokens
        self._reserved_usd -= reservation.usd
        # All that wait check again: the room may be enough for several of them.
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
