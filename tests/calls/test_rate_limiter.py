"""How fast a teacher is called, by all workers together: on a real Redis, by a clock that the test moves."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import pytest
from redis import Redis

from app import config
from app.calls.circuit_breaker import BreakerSettings, CircuitOpen
from app.calls.clock import SystemClock
from app.calls.rate_limiter import PresenceSettings, RateLimiter
from app.providers.teacher import Endpoint
from app.synth.prices import Prices
from tests.waiting import until_in_loop

pytestmark = pytest.mark.usefixtures("database")


class ManualClock(SystemClock):
    """The time of all workers and of Redis, in ms. It moves by `advance` alone."""

    def __init__(self):
        self.now_ms = 1_000_000
        self.sleepers: list[tuple[float, asyncio.Event]] = []

    def seconds(self) -> float:
        return self.now_ms / 1000

    def shared_ms(self) -> int:
        return self.now_ms

    def jitter(self) -> float:
        return 1.0

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        sleeper = (self.now_ms + 1000 * seconds, event)
        self.sleepers.append(sleeper)
        try:
            await event.wait()
        finally:
            self.sleepers.remove(sleeper)

    def advance(self, seconds: float) -> None:
        self.now_ms += round(1000 * seconds)
        for due, event in self.sleepers:
            if due <= self.now_ms:
                event.set()

    def asleep(self) -> list[float]:
        """When those are due that wait and were not woken."""
        return [due for due, event in self.sleepers if not event.is_set()]


class Scene:
    """Workers that share a teacher, and calls that are in flight until the test ends them."""

    def __init__(self, **endpoint):
        self.clock, self.limiters = ManualClock(), []
        self.name, self.endpoint = f"t-{uuid.uuid4().hex[:8]}", endpoint
        self.held = 0

    def worker(self, **settings) -> RateLimiter:
        endpoint = Endpoint(self.name, "http://x/v1", "m", "none", Prices(0, 0, 0), **self.endpoint)
        self.limiters.append(RateLimiter(endpoint, clock=self.clock, **settings))
        return self.limiters[-1]

    def state(self) -> dict[str, float]:
        redis = Redis.from_url(config.redis_url(), decode_responses=True)
        return {
            name: float(value) for name, value in redis.hgetall(self.limiters[0].keys[0]).items() if name != "prober"
        }

    async def state_is(self, name: str, value: float) -> None:
        await until_in_loop(lambda: self.state().get(name, 0) == pytest.approx(value), message=self.state)

    async def waits(self, sleepers: int = 1) -> None:
        """Until so many workers wait for the clock."""
        await until_in_loop(lambda: len(self.clock.asleep()) >= sleepers)

    async def call(self, limiter: RateLimiter, outcome="ok", after=0.0, used=10, gate: asyncio.Event | None = None):
        async with limiter.permit(100) as permit:
            self.held += 1
            if gate is not None:
                await gate.wait()
            self.held -= 1
            permit.outcome, permit.after, permit.used = outcome, after, used

    async def in_flight_at_once(self, limiters: list[RateLimiter], calls: int) -> int:
        """How many of the calls go while none of them ends; then all end well."""
        gate, before = asyncio.Event(), self.held
        tasks = [asyncio.create_task(self.call(limiters[n % len(limiters)], gate=gate)) for n in range(calls)]
        await until_in_loop(lambda: self._all_wait(limiters, calls - self.held + before))
        at_once = self.held - before
        gate.set()
        await self.seconds_until(asyncio.gather(*tasks))
        return at_once

    def _all_wait(self, limiters: list[RateLimiter], calls: int) -> bool:
        """Each worker has asked Redis, and waits for more room or for its calls; all but so many calls are held."""
        return len(self.clock.asleep()) >= len(limiters) and calls == sum(limiter.waiting for limiter in limiters)

    async def seconds_until(self, work: Awaitable) -> float:
        """How long the work takes, when time passes only while no call is in flight and all wait for it."""
        task, began = asyncio.ensure_future(work), self.clock.now_ms
        while not task.done():
            await until_in_loop(lambda: task.done() or (self.clock.asleep() and not self.held))
            if not task.done():
                self.clock.advance((min(self.clock.asleep()) - self.clock.now_ms) / 1000)
        await task
        return (self.clock.now_ms - began) / 1000


def play(scene: Scene, work: Callable[[], Awaitable[None]]) -> None:
    async def whole():
        try:
            await asyncio.wait_for(work(), 300)
        finally:
            for limiter in scene.limiters:
                await limiter.close()

    asyncio.run(whole())


def test_calls_in_flight_grow_while_all_goes_well_and_never_pass_the_ceiling():
    scene = Scene(in_flight=24)

    async def work():
        workers = [scene.worker(), scene.worker()]
        assert await scene.in_flight_at_once(workers, 12) == 4
        await scene.state_is("limit", 16)
        assert await scene.in_flight_at_once(workers, 60) == 16
        await scene.state_is("limit", 24)
        assert await scene.in_flight_at_once(workers, 60) == 24

    play(scene, work)


def test_a_teacher_that_asks_to_slow_down_halves_them_once_in_a_while():
    scene = Scene(in_flight=64)

    async def work():
        worker = scene.worker()
        await scene.in_flight_at_once([worker], 60)
        await scene.state_is("limit", 64)
        await asyncio.gather(*(scene.call(worker, "slow") for _ in range(5)))
        await scene.state_is("limit", 32)
        # Carefully from now on: one more for a whole round.
        await asyncio.gather(*(scene.call(worker) for _ in range(10)))
        await until_in_loop(lambda: 32.2 < scene.state()["limit"] < 33)
        scene.clock.advance(1.1)
        await scene.call(worker, "slow")
        await until_in_loop(lambda: 16 < scene.state()["limit"] < 17)

    play(scene, work)


def test_retry_after_is_kept_by_all_workers():
    scene = Scene()

    async def work():
        worker, other = scene.worker(), scene.worker()
        await scene.call(worker, "slow", after=0.6)
        assert await scene.seconds_until(scene.call(other)) == pytest.approx(0.6)

    play(scene, work)


def test_requests_per_minute():
    # A sixth of a minute's is there at once; then 5 a second.
    scene = Scene(in_flight=50, requests_per_minute=300)

    async def work():
        worker = scene.worker()
        calls = asyncio.gather(*(scene.call(worker) for _ in range(60)))
        assert await scene.seconds_until(calls) == pytest.approx(2, abs=0.1)

    play(scene, work)


@pytest.mark.parametrize(("used", "calls", "seconds"), [(10, 60, 0), (100, 15, 5)])
def test_tokens_per_minute_and_what_a_call_does_not_use_comes_back(used, calls, seconds):
    # Calls reserve 100 tokens. 1,000 are there at once; then 100 a second: without what comes back 60 calls take 50 s.
    scene = Scene(in_flight=50, tokens_per_minute=6000)

    async def work():
        worker = scene.worker()
        work = asyncio.gather(*(scene.call(worker, used=used) for _ in range(calls)))
        # The clock may move while tokens are on their way back.
        assert await scene.seconds_until(work) == pytest.approx(seconds, abs=1)

    play(scene, work)


def test_the_breaker_opens_waits_lets_one_try_and_closes():
    scene = Scene(in_flight=30)
    settings = BreakerSettings(first_open_ms=400)

    async def work():
        worker, other = scene.worker(breaker=settings), scene.worker(breaker=settings)
        for _ in range(settings.newest):
            await scene.call(worker, "failed")
        await scene.state_is("open_for", 400)
        with pytest.raises(CircuitOpen) as away:
            await scene.call(other)
        assert (away.value.seconds, away.value.away_for) == (0.4, 0)
        scene.clock.advance(0.4)
        # One goes ahead; the others wait for what it finds.
        gate = asyncio.Event()
        probe = asyncio.create_task(scene.call(worker, "failed", gate=gate))
        await until_in_loop(lambda: scene.held == 1)
        waiting = asyncio.create_task(scene.call(other))
        # The one for its probe, the other for the outcome.
        await scene.waits(2)
        assert not waiting.done()
        gate.set()
        await probe
        # It failed: open for twice as long.
        await scene.state_is("open_for", 800)
        with pytest.raises(CircuitOpen):
            await scene.seconds_until(waiting)
        scene.clock.advance(0.8)
        await scene.call(other)
        await scene.state_is("open_for", 0)
        await asyncio.gather(*(scene.call(worker) for _ in range(5)))

    play(scene, work)


def test_half_of_the_calls_must_fail_and_slow_is_no_failure():
    scene = Scene()

    async def work():
        worker = scene.worker()
        for n in range(60):
            await scene.call(worker, "failed" if n % 3 == 0 else "ok")
        for _ in range(60):
            await scene.seconds_until(scene.call(worker, "slow"))
        assert scene.state().get("open_for", 0) == 0

    play(scene, work)


def test_failures_of_long_ago_don_t_count():
    scene = Scene()
    settings = BreakerSettings(within_ms=30_000)

    async def work():
        worker = scene.worker(breaker=settings)
        for _ in range(settings.newest - 1):
            await scene.call(worker, "failed")
        scene.clock.advance(31)
        await scene.call(worker, "failed")
        await scene.call(worker)
        assert scene.state().get("open_for", 0) == 0

    play(scene, work)


def test_a_call_that_was_not_made_costs_nothing():
    scene = Scene(tokens_per_minute=6000)

    async def work():
        async with scene.worker().permit(1000):
            assert scene.state()["tokens"] == 0
        await scene.state_is("tokens", 1000)

    play(scene, work)


async def kill(limiter: RateLimiter, call: asyncio.Task) -> None:
    """The worker is no more, with its call in flight: it says nothing from now on."""
    limiter._task.cancel()
    await asyncio.gather(limiter._task, return_exceptions=True)
    call.cancel()
    # Held back: a dead worker gives nothing back.
    limiter._wake = lambda: None
    limiter._finished = []


def test_the_calls_of_a_dead_worker_hold_nobody_up_for_long_and_those_of_a_slow_one_count():
    scene = Scene(in_flight=2, timeout_seconds=600)
    presence = PresenceSettings(report_seconds=0.1, gone_ms=600)

    async def work():
        slow, dead, other = (scene.worker(presence=presence) for _ in range(3))
        gate = asyncio.Event()
        calls = [asyncio.create_task(scene.call(worker, gate=gate)) for worker in (slow, dead)]
        await until_in_loop(lambda: scene.held == 2)
        await scene.waits(2)
        await kill(dead, calls[1])
        waiting = asyncio.create_task(scene.call(other))
        await scene.waits(2)
        for _ in range(5):
            scene.clock.advance(0.1)
            await scene.waits(2)
        assert not waiting.done()
        scene.clock.advance(0.1)
        await waiting
        # The slow one is alive: its call counts as long as it takes.
        for _ in range(10):
            scene.clock.advance(0.1)
            await scene.waits()
        assert not calls[0].done()
        tasks = [asyncio.create_task(scene.call(other, gate=gate)) for _ in range(4)]
        await scene.waits(2)
        # Its own, the one that died without ending, and one more.
        assert scene.held == 3
        gate.set()
        await asyncio.gather(calls[0], *tasks)

    play(scene, work)


def test_a_probe_that_dies_with_its_worker_is_followed_by_another():
    scene = Scene(timeout_seconds=600)
    settings = {"breaker": BreakerSettings(first_open_ms=200), "presence": PresenceSettings(gone_ms=400)}

    async def work():
        worker, other = scene.worker(**settings), scene.worker(**settings)
        for _ in range(settings["breaker"].newest):
            await scene.call(worker, "failed")
        await scene.state_is("open_for", 200)
        scene.clock.advance(0.25)
        probe = asyncio.create_task(scene.call(worker, gate=asyncio.Event()))
        await until_in_loop(lambda: scene.held == 1)
        await scene.waits()
        await kill(worker, probe)
        waiting = asyncio.create_task(scene.call(other))
        await scene.waits()
        assert not waiting.done()
        scene.clock.advance(0.4)
        await waiting
        await scene.state_is("open_for", 0)

    play(scene, work)


def test_without_redis_each_worker_keeps_to_a_safe_share():
    scene = Scene(in_flight=16)

    async def work():
        worker = scene.worker(redis_url="redis://127.0.0.1:1/0")
        assert await scene.in_flight_at_once([worker], 30) == 4

    play(scene, work)


def test_calls_of_an_earlier_batch_get_their_permits_first():
    async def run() -> list[str]:
        limiter = Scene(in_flight=1).worker()
        granted: list[str] = []

        async def call(order: str) -> None:
            async with limiter.permit(100, order) as permit:
                granted.append(order)
                await asyncio.sleep(0)
                permit.outcome = "ok"

        await asyncio.gather(*(call(order) for order in ("bat_1", "bat_3", "bat_2", "bat_3", "bat_1", "bat_2")))
        await limiter.close()
        return granted

    assert asyncio.run(run()) == ["bat_1", "bat_1", "bat_2", "bat_2", "bat_3", "bat_3"]
