"""How fast each teacher may be asked, by all workers together: its limits, its mood, and whether it is there at all.

The state lies in Redis, in one script (rate_limiter.lua): calls in flight under a limit that grows while the teacher is
healthy and halves when it asks to slow down (additive increase, multiplicative decrease: Chiu and Jain 1989),
requests and tokens per minute in buckets, and a circuit breaker. With Redis away each worker keeps to a share of its
own that several of them can have at once.
"""

import asyncio
import hashlib
import logging
import random
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import redis.asyncio
from redis.exceptions import RedisError

from app import config
from app.providers.teacher import Endpoint

log = logging.getLogger(__name__)

SCRIPT = (Path(__file__).parent / "rate_limiter.lua").read_text("utf-8")
PREFIX = "seedbed:limits:"
# Of the newest 20 calls within 30 s half have failed: rest 15 s, then twice as long each time, up to 5 minutes.
NEWEST, WITHIN_MS, FIRST_REST_MS, LONGEST_REST_MS = 20, 30_000, 15_000, 300_000
LOST_AFTER_SECONDS = 15
# A worker speaks so often while it has calls in flight; one that is silent so long is gone, and its calls with it.
SPEAK_SECONDS, GONE_MS = 3.0, 10_000
# Without Redis nobody knows how many workers there are: a quarter of the limits for each.
SAFE_SHARE = 4
ASK_REDIS_AGAIN_SECONDS = 5.0
LONGEST_WAIT, WAIT_ALONE = 1.0, 0.05
AT_ONCE = 64


class TeacherAway(Exception):
    """The circuit breaker is open: the teacher fails most calls. `seconds`: until it may be asked again."""

    def __init__(self, seconds: float, away_for: float):
        super().__init__(f"the teacher fails most calls; it is asked again in {seconds:.0f} s")
        self.seconds, self.away_for = seconds, away_for


@dataclass
class Permit:
    """Leave for one call. Say before the end how it went.

    ok; slow: it asked to slow down; failed: an error or a broken connection; timeout; none: the call was not made.
    """

    tokens: int
    outcome: str = "none"
    after: float = 0.0
    used: int | None = None
    alone: bool = False
    given_back: bool = False

    @property
    def unused(self) -> int:
        """Tokens to give back: all of a call that was not made, none of one whose usage is not known."""
        if self.outcome == "none":
            return self.tokens
        return 0 if self.used is None else self.tokens - self.used


class RateLimiter:
    """The limits of one teacher, for one event loop. One task asks Redis for all who wait here."""

    def __init__(self, endpoint: Endpoint):
        self._endpoint = endpoint
        # Another address or model under the same name is another teacher.
        whole = "\n".join((endpoint.base_url, endpoint.model))
        name = f"{endpoint.name}-{hashlib.sha256(whole.encode()).hexdigest()[:12]}"
        self._keys = [f"{PREFIX}{{{name}}}:{part}" for part in ("state", "calls", "outcomes", "workers")]
        self._worker, self._in_flight = uuid.uuid4().hex, 0
        self._redis = redis.asyncio.from_url(
            config.redis_url(), socket_connect_timeout=1, socket_timeout=2, decode_responses=True
        )
        self._script = self._redis.register_script(SCRIPT)
        self._alone = _Alone(endpoint)
        self._without_redis_until = 0.0
        self._waiting: deque[tuple[Permit, asyncio.Future]] = deque()
        self._over: list[Permit] = []
        self._news = asyncio.Event()
        self._working: asyncio.Task | None = None

    async def close(self) -> None:
        """Give back what is over, and let go."""
        if self._over:
            await self._exchange([])
        if self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)
        await self._redis.aclose()

    @property
    def waiting(self) -> int:
        """Calls that wait here for leave."""
        return len(self._waiting)

    @asynccontextmanager
    async def permit(self, tokens: int) -> AsyncIterator[Permit]:
        """Wait until one more call of up to `tokens` may be made. Raises TeacherAway."""
        one = Permit(tokens)
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((one, future))
        self._wake()
        try:
            await future
            yield one
        finally:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.give_back(one)
            else:
                future.cancel()

    def _wake(self) -> None:
        self._news.set()
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())

    def give_back(self, one: Permit) -> None:
        """The call is over, and it is said how it went. The end of `permit` does the same for who has not."""
        if one.given_back:
            return
        one.given_back = True
        if one.alone:
            self._alone.release()
        else:
            self._in_flight -= 1
            self._over.append(one)
        self._wake()

    async def _work(self) -> None:
        while self._waiting or self._over or self._in_flight:
            self._news.clear()
            some = self._first_of_those_who_wait()
            granted, verdict, wait, away_for = await self._exchange([one for one, _ in some])
            for one, future in some[:granted]:
                self._waiting.popleft()
                if future.done():
                    # Who waited has gone.
                    self.give_back(one)
                else:
                    future.set_result(None)
            if verdict == "away":
                self._turn_all_away(TeacherAway(wait, away_for))
            elif self._waiting and granted < len(some):
                await self._hear(min(LONGEST_WAIT, wait) * random.uniform(0.5, 1.5))
            if self._in_flight and not self._waiting:
                await self._hear(SPEAK_SECONDS)

    async def _hear(self, seconds: float) -> None:
        """Until a call ends or another one wants to go, or for so long."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), seconds)

    def _first_of_those_who_wait(self) -> list[tuple[Permit, asyncio.Future]]:
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()
        return list(islice(self._waiting, AT_ONCE))

    def _turn_all_away(self, error: TeacherAway) -> None:
        while self._waiting:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(error)

    async def _exchange(self, waiting: Sequence[Permit]) -> tuple[int, str, float, float]:
        """Give back, and take leave: how many of `waiting` may go, and what the next one is told."""
        over, self._over = self._over, []
        answer = await self._ask(over, waiting)
        if answer is not None:
            granted, verdict, wait, away_for = answer
            self._in_flight += int(granted)
            return int(granted), verdict, int(wait) / 1000, int(away_for) / 1000
        granted = 0
        while granted < len(waiting) and self._alone.acquire(waiting[granted].tokens):
            waiting[granted].alone = True
            granted += 1
        return granted, "wait", WAIT_ALONE, 0.0

    async def _ask(self, over: Sequence[Permit], waiting: Sequence[Permit]) -> list | None:
        """The script's answer; None while Redis is away."""
        if time.monotonic() < self._without_redis_until:
            return None
        endpoint = self._endpoint
        lost_after = int(1000 * (endpoint.timeout_seconds + LOST_AFTER_SECONDS))
        limits = (endpoint.in_flight, endpoint.requests_per_minute, endpoint.tokens_per_minute, lost_after)
        worker = (self._worker, GONE_MS, self._in_flight)
        breaker = (NEWEST, WITHIN_MS, FIRST_REST_MS, LONGEST_REST_MS)
        ended = [part for one in over for part in (one.outcome, int(1000 * one.after), one.unused)]
        asked = [one.tokens for one in waiting]
        try:
            return await self._script(keys=self._keys, args=[*limits, *breaker, *worker, len(over), *ended, *asked])
        except (RedisError, OSError) as error:
            log.warning("no limits from Redis (%s): this worker keeps to a share of its own", error)
            self._without_redis_until = time.monotonic() + ASK_REDIS_AGAIN_SECONDS
            return None


class _Alone:
    """A worker's own share while Redis is away."""

    def __init__(self, endpoint: Endpoint):
        self._most = max(1, endpoint.in_flight // SAFE_SHARE)
        self._requests = endpoint.requests_per_minute // SAFE_SHARE
        self._tokens = endpoint.tokens_per_minute // SAFE_SHARE
        self._in_flight = 0
        self._made: deque[tuple[float, int]] = deque()

    def acquire(self, tokens: int) -> bool:
        minute_ago = time.monotonic() - 60
        while self._made and self._made[0][0] < minute_ago:
            self._made.popleft()
        spent = sum(one for _, one in self._made)
        if self._in_flight >= self._most or (self._requests and len(self._made) >= self._requests):
            return False
        if self._tokens and self._made and spent + tokens > self._tokens:
            return False
        self._in_flight += 1
        self._made.append((time.monotonic(), tokens))
        return True

    def release(self) -> None:
        self._in_flight -= 1
