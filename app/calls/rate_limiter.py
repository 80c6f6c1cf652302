"""The rate limiter: how fast each teacher may be called, by all workers together.

The state lies in Redis, and one script decides (rate_limiter.lua): calls in flight under a limit that grows while the
teacher is healthy and halves when it asks to slow down (additive increase, multiplicative decrease: Chiu and Jain
1989), requests and tokens per minute in token buckets, and the circuit breaker. While Redis can't be reached each
worker uses a local fallback: a quarter of the limits, so that up to four workers stay within them together.
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
from app.calls.circuit_breaker import BreakerSettings, CircuitOpen
from app.calls.clock import SystemClock
from app.providers.teacher import Endpoint

log = logging.getLogger(__name__)

SCRIPT = circuit_breaker.SCRIPT + (Path(__file__).parent / "rate_limiter.lua").read_text("utf-8")
PREFIX = "seedbed:limits:"
# Added to the teacher's timeout: a probe that has not ended by then was made by a worker that died.
PROBE_LOST_AFTER_SECONDS = 15
# Without Redis no worker knows how many others there are. Each takes a quarter of the limits.
FALLBACK_SHARE = 4
# While Redis hangs each attempt takes its whole socket timeout, and no call begins in that time.
REDIS_RETRY_SECONDS = 5.0
# Permits are also released by other workers, of which this one is not notified: it asks again after a short wait.
MAX_WAIT_SECONDS, FALLBACK_WAIT_SECONDS = 1.0, 0.05
# Redis runs one script at a time for all workers, so that a script must stay short.
MAX_PERMITS_AT_ONCE = 64


@dataclass(frozen=True)
class PresenceSettings:
    """When the calls in flight of a worker that died stop to count.

    Attributes:
        report_seconds: The interval in which a worker with calls in flight calls the script.
        gone_ms: A worker that has not called it for so many milliseconds counts as dead, and its calls as ended.
    """

    report_seconds: float = 3.0
    gone_ms: int = 10_000


@dataclass
class Permit:
    """Permission for one call. The holder sets the outcome before it releases the permit.

    Attributes:
        tokens: The most tokens that the call can use.
        order: Its place among the calls that wait: lower orders come first.
        outcome: ok; slow: the teacher requested fewer calls; failed: an error or a broken connection; timeout; none:
            the call was not made.
        after: The seconds for which the teacher requested no further call; 0: it did not.
        used: The tokens that the call used; None: not known.
        from_fallback: Whether the local fallback granted it, and not Redis.
        is_released: Whether the permit was released.
    """

    tokens: int
    order: str = ""
    outcome: str = "none"
    after: float = 0.0
    used: int | None = None
    from_fallback: bool = False
    is_released: bool = False

    @property
    def unused(self) -> int:
        """The tokens to return to the bucket: all of a call that was not made, none where the usage is not known."""
        if self.outcome == "none":
            return self.tokens
        return 0 if self.used is None else self.tokens - self.used


@dataclass(frozen=True)
class _Verdict:
    """The script's answer: the number of permits granted, and for the next one granted, wait or open.

    `wait_seconds`: when to ask again. `away_seconds`: how long the circuit breaker has been open.
    """

    granted: int
    next: str
    wait_seconds: float
    away_seconds: float = 0.0


class RateLimiter:
    """Grants permits for calls of one teacher, for one event loop. One task asks Redis on behalf of all that wait.

    Args:
        endpoint: The teacher, with its limits.
        breaker: The settings of the circuit breaker.
        presence: When the calls of a worker that died stop to count.
        clock: The time.
        redis_url: The address of Redis; the configured one unless it is given.

    Attributes:
        keys: The keys of the script in Redis.
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
        # Another address or model under the same name is another teacher, with a rate of its own.
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
        # By the `order` of the calls; calls of one order stay first come, first served.
        self._waiting: deque[tuple[Permit, asyncio.Future]] = deque()
        self._finished: list[Permit] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task | None = None

    async def close(self) -> None:
        """Report the calls that have finished, and close the connection to Redis."""
        if self._finished:
            await self._exchange([])
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._redis.aclose()

    @property
    def waiting(self) -> int:
        """The number of calls that wait for a permit."""
        return len(self._waiting)

    @asynccontextmanager
    async def permit(self, tokens: int, order: str = "") -> AsyncIterator[Permit]:
        """Wait until one more call may be made; the permit is released when the block ends.

        Args:
            tokens: The most tokens that the call can use.
            order: Calls of a lower order get their permits first. With the id of a batch, a batch that has begun is
                finished before another takes its first steps, so that a slow teacher soon gives whole rows.

        Raises:
            CircuitOpen: The circuit breaker of the teacher is open.
        """
        permit = Permit(tokens, order)
        future = asyncio.get_running_loop().create_future()
        index = next((n for n, (other, _) in enumerate(self._waiting) if other.order > order), len(self._waiting))
        self._waiting.insert(index, (permit, future))
        self._wake()
        try:
            await future
            yield permit
        finally:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.release(permit)
            else:
                future.cancel()

    def _wake(self) -> None:
        self._changed.set()
        # The task ends when no call waits or is in flight, so that an idle worker does not poll Redis.
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    def release(self, permit: Permit) -> None:
        """Release the permit of a call that has finished; its outcome is set. A second release changes nothing."""
        if permit.is_released:
            return
        permit.is_released = True
        if permit.from_fallback:
            self._fallback.release()
        else:
            self._in_flight -= 1
            self._finished.append(permit)
        self._wake()

    async def _run(self) -> None:
        while self._waiting or self._finished or self._in_flight:
            self._changed.clear()
            batch = self._first_waiting()
            verdict = await self._exchange([permit for permit, _ in batch])
            self._grant(batch[: verdict.granted])
            if verdict.next == "open":
                self._refuse_all(CircuitOpen(verdict.wait_seconds, verdict.away_seconds))
            elif self._waiting and verdict.granted < len(batch):
                wait = min(MAX_WAIT_SECONDS, verdict.wait_seconds)
                await self._clock.wait(self._changed, wait * self._clock.jitter())
            # The script must be called while calls are in flight, or this worker would count as dead.
            if self._in_flight and not self._waiting:
                await self._clock.wait(self._changed, self._presence.report_seconds)

    def _grant(self, batch: Sequence[tuple[Permit, asyncio.Future]]) -> None:
        for permit, future in batch:
            # Not the first ones: a call of a lower order may have come while the script ran.
            self._waiting.remove((permit, future))
            if future.done():
                # The caller was cancelled while the script ran, and will not release the permit itself.
                self.release(permit)
            else:
                future.set_result(None)

    def _first_waiting(self) -> list[tuple[Permit, asyncio.Future]]:
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()
        return list(islice(self._waiting, MAX_PERMITS_AT_ONCE))

    def _refuse_all(self, error: CircuitOpen) -> None:
        while self._waiting:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(error)

    async def _exchange(self, waiting: Sequence[Permit]) -> _Verdict:
        """Report the finished calls to the script, and request permits for `waiting`, first come first served."""
        # Taken before the await: a call that finishes while the script runs belongs to the next exchange.
        finished, self._finished = self._finished, []
        answer = await self._call_script(finished, waiting)
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

    async def _call_script(self, finished: Sequence[Permit], waiting: Sequence[Permit]) -> list | None:
        """Return the script's answer; None while Redis can't be reached."""
        if self._clock.seconds() < self._without_redis_until:
            return None
        try:
            return await self._script(keys=self.keys, args=self._arguments(finished, waiting))
        except (RedisError, OSError) as error:
            log.warning(
                "Redis can't be reached (%s): this worker calls the teacher at a quarter of its limits meanwhile",
                error,
            )
            self._without_redis_until = self._clock.seconds() + REDIS_RETRY_SECONDS
            return None

    def _arguments(self, finished: Sequence[Permit], waiting: Sequence[Permit]) -> list:
        endpoint, breaker, now = self._endpoint, self._breaker, self._clock.shared_ms()
        probe_lost_after_ms = int(1000 * (endpoint.timeout_seconds + PROBE_LOST_AFTER_SECONDS))
        return [
            *(endpoint.in_flight, endpoint.requests_per_minute, endpoint.tokens_per_minute, probe_lost_after_ms),
            *(breaker.newest, breaker.within_ms, breaker.first_open_ms, breaker.longest_open_ms),
            *(self._worker, self._presence.gone_ms, self._in_flight, "" if now is None else now, len(finished)),
            *(part for permit in finished for part in (permit.outcome, int(1000 * permit.after), permit.unused)),
            *(permit.tokens for permit in waiting),
        ]


class _LocalFallback:
    """Grants permits while Redis can't be reached: a sliding window of a minute over this worker's own calls.

    `clock` returns seconds.
    """

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
        spent_tokens = sum(tokens for _, tokens in self._calls)
        if self._in_flight >= self._max_in_flight or (self._requests and len(self._calls) >= self._requests):
            return False
        # Without calls in the window any call is granted: one that is larger than the share would wait for ever.
        if self._tokens and self._calls and spent_tokens + tokens > self._tokens:
            return False
        self._in_flight += 1
        self._calls.append((now, tokens))
        return True

    def release(self) -> None:
        self._in_flight -= 1
