"""How fast each teacher may be called, by all workers together.

The state lies in Redis, and one script decides (rate_limiter.lua): calls in flight under a limit that grows while the
teacher is healthy and halves when it asks to slow down (additive increase, multiplicative decrease: Chiu and Jain
1989), requests and tokens per minute in buckets, and the circuit breaker. With Redis away each worker keeps to a share
of its own that several of them can have at once.
"""

import asyncio
import hashlib
import logging
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import redis.asyncio
from redis.exceptions import RedisError

from app import config
from app.calls import circuit_breaker
from app.calls.circuit_breaker import BreakerSettings, TeacherAway
from app.calls.clock import SystemClock
from app.providers.teacher import Endpoint

log = logging.getLogger(__name__)

SCRIPT = circuit_breaker.SCRIPT + (Path(__file__).parent / "rate_limiter.lua").read_text("utf-8")
PREFIX = "seedbed:limits:"
PROBE_LOST_AFTER_SECONDS = 15
# Without Redis nobody knows how many workers there are: a quarter of the limits for each.
FALLBACK_SHARE = 4
REDIS_RETRY_SECONDS = 5.0
MAX_WAIT_SECONDS, FALLBACK_WAIT_SECONDS = 1.0, 0.05
MAX_PERMITS_AT_ONCE = 64


@dataclass(frozen=True)
class PresenceSettings:
    """A worker reports so often while it has calls in flight; one that is silent for `gone_ms` is gone, with them."""

    report_seconds: float = 3.0
    gone_ms: int = 10_000


@dataclass
class Permit:
    """Permission for one call. Say before the end how it went.

    ok; slow: it asked to slow down; failed: an error or a broken connection; timeout; none: the call was not made.
    `after`: seconds until the teacher wants to be called again. `used`: tokens.
    """

    tokens: int
    outcome: str = "none"
    after: float = 0.0
    used: int | None = None
    from_fallback: bool = False
    given_back: bool = False

    @property
    def unused(self) -> int:
        """Tokens to give back: all of a call that was not made, none of one whose usage is not known."""
        if self.outcome == "none":
            return self.tokens
        return 0 if self.used is None else self.tokens - self.used


@dataclass(frozen=True)
class _Verdict:
    """How many of those that wait may go; what the next one is told: go, wait or away; when to ask again."""

    granted: int
    next: str
    wait_seconds: float
    away_seconds: float = 0.0


class RateLimiter:
    """The limits of one teacher, for one event loop. One task asks Redis for all who wait here.

    `keys`: those of the script. `redis_url`: the configured one, unless given.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        breaker: BreakerSettings | None = None,
        presence: PresenceSettings | None = None,
        clock: SystemClock | None = None,
        redis_url: str | None = None,
    ):
        self._endpoint, self._clock = endpoint, clock or SystemClock()
        self._breaker, self._presence = breaker or BreakerSettings(), presence or PresenceSettings()
        # Another address or model under the same name is another teacher.
        identity = "\n".join((endpoint.address, endpoint.model))
        name = f"{endpoint.name}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
        self.keys = [f"{PREFIX}{{{name}}}:{part}" for part in ("state", "calls", "outcomes", "workers")]
        self._worker, self._in_flight = uuid.uuid4().hex, 0
        self._redis = redis.asyncio.from_url(
            redis_url or config.redis_url(), socket_connect_timeout=1, socket_timeout=2, decode_responses=True
        )
        self._script = self._redis.register_script(SCRIPT)
        self._fallback = _LocalFallback(endpoint, self._clock.seconds)
        self._without_redis_until = 0.0
        self._waiting: deque[tuple[Permit, asyncio.Future]] = deque()
        self._ended: list[Permit] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task | None = None

    async def close(self) -> None:
        """Give back the permits of calls that are over, and let go."""
        if self._ended:
            await self._exchange([])
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._redis.aclose()

    @property
    def waiting(self) -> int:
        """Calls that wait here for a permit."""
        return len(self._waiting)

    @asynccontextmanager
    async def permit(self, tokens: int) -> AsyncIterator[Permit]:
        """Wait until one more call of up to `tokens` may be made. Raises TeacherAway."""
        permit = Permit(tokens)
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((permit, future))
        self._wake()
        try:
            await future
            yield permit
        finally:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.give_back(permit)
            else:
                future.cancel()

    def _wake(self) -> None:
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    def give_back(self, permit: Permit) -> None:
        """The call is over, and it is said how it went. The end of `permit` does the same for who has not."""
        if permit.given_back:
            return
        permit.given_back = True
        if permit.from_fallback:
            self._fallback.release()
        else:
            self._in_flight -= 1
            self._ended.append(permit)
        self._wake()

    async def _run(self) -> None:
        while self._waiting or self._ended or self._in_flight:
            self._changed.clear()
            batch = self._first_waiting()
            verdict = await self._exchange([permit for permit, _ in batch])
            self._grant(batch[: verdict.granted])
            if verdict.next == "away":
                self._refuse_all(TeacherAway(verdict.wait_seconds, verdict.away_seconds))
            elif self._waiting and verdict.granted < len(batch):
                wait = min(MAX_WAIT_SECONDS, verdict.wait_seconds)
                await self._clock.wait(self._changed, wait * self._clock.jitter())
            if self._in_flight and not self._waiting:
                await self._clock.wait(self._changed, self._presence.report_seconds)

    def _grant(self, batch: Sequence[tuple[Permit, asyncio.Future]]) -> None:
        for permit, future in batch:
            self._waiting.popleft()
            if future.done():
                # Who waited has gone.
                self.give_back(permit)
            else:
                future.set_result(None)

    def _first_waiting(self) -> list[tuple[Permit, asyncio.Future]]:
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()
        return list(islice(self._waiting, MAX_PERMITS_AT_ONCE))

    def _refuse_all(self, error: TeacherAway) -> None:
        while self._waiting:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(error)

    async def _exchange(self, waiting: Sequence[Permit]) -> _Verdict:
        """Give back permits, and take new ones for `waiting`, first come first served."""
        ended, self._ended = self._ended, []
        answer = await self._call_script(ended, waiting)
        if answer is None:
            return self._take_from_fallback(waiting)
        granted, verdict, wait_ms, away_ms = answer
        self._in_flight += int(granted)
        return _Verdict(int(granted), verdict, int(wait_ms) / 1000, int(away_ms) / 1000)

    def _take_from_fallback(self, waiting: Sequence[Permit]) -> _Verdict:
        granted = 0
        while granted < len(waiting) and self._fallback.acquire(waiting[granted].tokens):
            waiting[granted].from_fallback = True
            granted += 1
        return _Verdict(granted, "wait", FALLBACK_WAIT_SECONDS)

    async def _call_script(self, ended: Sequence[Permit], waiting: Sequence[Permit]) -> list | None:
        """The script's answer; None while Redis is away."""
        if self._clock.seconds() < self._without_redis_until:
            return None
        try:
            return await self._script(keys=self.keys, args=self._arguments(ended, waiting))
        except (RedisError, OSError) as error:
            log.warning("no limits from Redis (%s): this worker keeps to a share of its own", error)
            self._without_redis_until = self._clock.seconds() + REDIS_RETRY_SECONDS
            return None

    def _arguments(self, ended: Sequence[Permit], waiting: Sequence[Permit]) -> list:
        endpoint, breaker, now = self._endpoint, self._breaker, self._clock.shared_ms()
        probe_lost_after_ms = int(1000 * (endpoint.timeout_seconds + PROBE_LOST_AFTER_SECONDS))
        return [
            *(endpoint.in_flight, endpoint.requests_per_minute, endpoint.tokens_per_minute, probe_lost_after_ms),
            *(breaker.newest, breaker.within_ms, breaker.first_open_ms, breaker.longest_open_ms),
            *(self._worker, self._presence.gone_ms, self._in_flight, "" if now is None else now, len(ended)),
            *(part for permit in ended for part in (permit.outcome, int(1000 * permit.after), permit.unused)),
            *(permit.tokens for permit in waiting),
        ]


class _LocalFallback:
    """A worker's own share while Redis is away. `clock` gives seconds."""

    def __init__(self, endpoint: Endpoint, clock: Callable[[], float]):
        self._clock = clock
        self._max_in_flight = max(1, endpoint.in_flight // FALLBACK_SHARE)
        self._requests = endpoint.requests_per_minute // FALLBACK_SHARE
        self._tokens = endpoint.tokens_per_minute // FALLBACK_SHARE
        self._in_flight = 0
        self._calls: deque[tuple[float, int]] = deque()

    def acquire(self, tokens: int) -> bool:
        now = self._clock()
        while self._calls and self._calls[0][0] < now - 60:
            self._calls.popleft()
        spent = sum(tokens for _, tokens in self._calls)
        if self._in_flight >= self._max_in_flight or (self._requests and len(self._calls) >= self._requests):
            return False
        if self._tokens and self._calls and spent + tokens > self._tokens:
            return False
        self._in_flight += 1
        self._calls.append((now, tokens))
        return True

    def release(self) -> None:
        self._in_flight -= 1
