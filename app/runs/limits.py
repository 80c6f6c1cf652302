"""How fast each teacher may be asked, by all workers together: its limits, its mood, and whether it is there at all.

The state lies in Redis, in one script (limits.lua): calls in flight under a limit that grows while the teacher is
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
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import redis.asyncio
from redis.exceptions import RedisError

from app import config
from app.providers.teacher import Endpoint

log = logging.getLogger(__name__)

SCRIPT = (Path(__file__).parent / "limits.lua").read_text("utf-8")
PREFIX = "seedbed:limits:"
# Of the newest 20 calls within 30 s half have failed: rest 15 s, then twice as long each time, up to 5 minutes.
NEWEST, WITHIN_MS, FIRST_REST_MS, LONGEST_REST_MS = 20, 30_000, 15_000, 300_000
LOST_AFTER_SECONDS = 15
# Without Redis nobody knows how many workers there are: a quarter of the limits for each.
SAFE_SHARE = 4
ASK_REDIS_AGAIN_SECONDS = 5.0
LONGEST_WAIT = 1.0


class TeacherAway(Exception):
    """The circuit breaker is open: the teacher fails most calls. `seconds`: until it may be asked again."""

    def __init__(self, seconds: float, away_for: float):
        super().__init__(f"the teacher fails most calls; it is asked again in {seconds:.0f} s")
        self.seconds, self.away_for = seconds, away_for


@dataclass
class Permit:
    """Leave for one call. Say before the end how it went: ok, slow (asked to slow down), failed, none (not made)."""

    id: str
    tokens: int
    outcome: str = "none"
    after: float = 0.0
    used: int | None = None


class Limits:
    """The limits of one teacher, for one event loop."""

    def __init__(self, endpoint: Endpoint):
        self._endpoint = endpoint
        # Another address or model under the same name is another teacher.
        whole = "\n".join((endpoint.base_url, endpoint.model))
        name = f"{endpoint.name}-{hashlib.sha256(whole.encode()).hexdigest()[:12]}"
        self._keys = [f"{PREFIX}{{{name}}}:{part}" for part in ("state", "flight", "outcomes")]
        self._redis = redis.asyncio.from_url(
            config.redis_url(), socket_connect_timeout=1, socket_timeout=2, decode_responses=True
        )
        self._script = self._redis.register_script(SCRIPT)
        self._alone = _Alone(endpoint)
        self._without_redis_until = 0.0

    async def close(self) -> None:
        await self._redis.aclose()

    @asynccontextmanager
    async def permit(self, tokens: int) -> AsyncIterator[Permit]:
        """Wait until one more call of up to `tokens` may be made. Raises TeacherAway."""
        one = Permit(uuid.uuid4().hex, tokens)
        alone = await self._acquire(one)
        try:
            yield one
        finally:
            if alone:
                self._alone.release()
            else:
                await asyncio.shield(self._release(one))

    async def _acquire(self, one: Permit) -> bool:
        """True when it was given without Redis."""
        while True:
            answer = await self._ask("acquire", one.id, *self._ceilings(), one.tokens, self._lost_after())
            if answer is None:
                if self._alone.acquire(one.tokens):
                    return True
                answer = ("wait", 100, 0)
            verdict, milliseconds, away_for = answer
            if verdict == "go":
                return False
            if verdict == "away":
                raise TeacherAway(int(milliseconds) / 1000, int(away_for) / 1000)
            wait = min(LONGEST_WAIT, int(milliseconds) / 1000)
            await asyncio.sleep(wait * random.uniform(0.5, 1.5))

    async def _release(self, one: Permit) -> None:
        unused = 0 if one.used is None else one.tokens - one.used
        unused = one.tokens if one.outcome == "none" else unused
        await self._ask(
            "release",
            one.id,
            one.outcome,
            int(1000 * one.after),
            unused,
            self._endpoint.in_flight,
            self._endpoint.tokens_per_minute,
            NEWEST,
            WITHIN_MS,
            FIRST_REST_MS,
            LONGEST_REST_MS,
        )

    async def _ask(self, *arguments) -> tuple | None:
        """The script's answer; None while Redis is away."""
        if time.monotonic() < self._without_redis_until:
            return None
        try:
            return tuple(await self._script(keys=self._keys, args=arguments))
        except (RedisError, OSError) as error:
            log.warning("no limits from Redis (%s): this worker keeps to a share of its own", error)
            self._without_redis_until = time.monotonic() + ASK_REDIS_AGAIN_SECONDS
            return None

    def _ceilings(self) -> tuple[int, int, int]:
        endpoint = self._endpoint
        return endpoint.in_flight, endpoint.requests_per_minute, endpoint.tokens_per_minute

    def _lost_after(self) -> int:
        """When a call counts as lost with its worker: it can't last longer than its timeout."""
        return int(1000 * (self._endpoint.timeout_seconds + LOST_AFTER_SECONDS))


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
