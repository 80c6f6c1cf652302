"""How fast a teacher is asked, by all workers together: on a real Redis."""

import asyncio
import time
import uuid

import pytest
from redis import Redis

from app import config
from app.calls import rate_limiter
from app.calls.rate_limiter import RateLimiter, TeacherAway
from app.providers.teacher import Endpoint
from app.synth.prices import Prices

pytestmark = pytest.mark.usefixtures("database")


def endpoint(**more) -> Endpoint:
    return Endpoint(f"t-{uuid.uuid4().hex[:8]}", "http://x/v1", "m", "none", Prices(0, 0, 0), **more)


async def call(of: RateLimiter, outcome: str = "ok", after: float = 0.0, used: int = 10, seconds: float = 0.0) -> None:
    async with of.permit(100) as permit:
        await asyncio.sleep(seconds)
        permit.outcome, permit.after, permit.used = outcome, after, used
    # It is given back by the task that asks Redis.
    await of._working


def state(of: RateLimiter) -> dict[str, float]:
    found = Redis.from_url(config.redis_url(), decode_responses=True).hgetall(of._keys[0])
    return {name: float(value) for name, value in found.items() if name != "prober"}


def run(work):
    async def closed():
        opened = []

        def open_one(where: Endpoint) -> RateLimiter:
            opened.append(RateLimiter(where))
            return opened[-1]

        try:
            return await work(open_one)
        finally:
            for one in opened:
                await one.close()

    return asyncio.run(closed())


async def most_at_once(workers: list[RateLimiter], calls: int, seconds: float) -> int:
    now = most = 0

    async def one(of: RateLimiter) -> None:
        nonlocal now, most
        async with of.permit(10) as permit:
            now += 1
            most = max(most, now)
            await asyncio.sleep(seconds)
            now -= 1
            permit.outcome, permit.used = "ok", 10

    await asyncio.gather(*(one(workers[n % len(workers)]) for n in range(calls)))
    return most


def test_calls_in_flight_grow_while_all_goes_well_and_never_pass_the_ceiling():
    async def work(open_one):
        where = endpoint(in_flight=24)
        workers = [open_one(where), open_one(where)]
        first = await most_at_once(workers, 12, 0.05)
        assert first < 24
        assert await most_at_once(workers, 120, 0.05) <= 24
        assert state(workers[0])["limit"] == 24
        assert await most_at_once(workers, 60, 0.05) > 12

    run(work)


def test_a_teacher_that_asks_to_slow_down_halves_them_once_in_a_while():
    async def work(open_one):
        one = open_one(endpoint(in_flight=64))
        await most_at_once([one], 200, 0.02)
        before = state(one)["limit"]
        await asyncio.gather(*(call(one, "slow") for _ in range(5)))
        assert state(one)["limit"] == pytest.approx(before / 2, rel=0.05)
        # Carefully from now on: one more for a whole round.
        await asyncio.gather(*(call(one) for _ in range(10)))
        assert state(one)["limit"] < before / 2 + 2

    run(work)


def test_retry_after_is_kept_by_all_workers():
    async def work(open_one):
        where = endpoint()
        one, other = open_one(where), open_one(where)
        await call(one, "slow", after=0.6)
        began = time.monotonic()
        await call(other)
        assert 0.4 < time.monotonic() - began < 3

    run(work)


def test_requests_and_tokens_per_minute():
    async def work(open_one):
        # A sixth of a minute's is there at once; then 5 a second.
        one = open_one(endpoint(in_flight=50, requests_per_minute=300))
        began = time.monotonic()
        await asyncio.gather(*(call(one) for _ in range(60)))
        assert 1.5 < time.monotonic() - began < 6
        # Calls reserve 100 tokens and use 10: what they don't use comes back.
        sparing = open_one(endpoint(in_flight=50, tokens_per_minute=6000))
        began = time.monotonic()
        await asyncio.gather(*(call(sparing) for _ in range(60)))
        assert time.monotonic() - began < 5
        greedy = open_one(endpoint(in_flight=50, tokens_per_minute=6000))
        began = time.monotonic()
        await asyncio.gather(*(call(greedy, used=100) for _ in range(15)))
        assert 3 < time.monotonic() - began < 10

    run(work)


def test_the_breaker_opens_rests_asks_once_and_closes(monkeypatch):
    monkeypatch.setattr(rate_limiter, "FIRST_REST_MS", 400)

    async def work(open_one):
        where = endpoint(in_flight=30)
        one, other = open_one(where), open_one(where)
        for _ in range(rate_limiter.NEWEST):
            await call(one, "failed")
        with pytest.raises(TeacherAway) as away:
            await call(other)
        assert 0 < away.value.seconds <= 0.4
        await asyncio.sleep(0.5)
        # One goes ahead; the others wait for what it finds.
        probe = asyncio.create_task(call(one, "failed", seconds=0.3))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        with pytest.raises(TeacherAway):
            await call(other)
        assert time.monotonic() - began > 0.1
        await probe
        # It failed: twice the rest.
        assert state(one)["open_for"] == 800
        await asyncio.sleep(0.9)
        await call(other)
        assert state(one)["open_for"] == 0
        await asyncio.gather(*(call(one) for _ in range(5)))

    run(work)


def test_half_of_the_calls_must_fail_and_slow_is_no_failure():
    async def work(open_one):
        one = open_one(endpoint())
        for n in range(60):
            await call(one, "failed" if n % 3 == 0 else "ok")
        for _ in range(60):
            await call(one, "slow")
        assert state(one).get("open_for", 0) == 0

    run(work)


def test_a_call_that_was_not_made_costs_nothing():
    async def work(open_one):
        one = open_one(endpoint(tokens_per_minute=6000))
        async with one.permit(1000):
            pass
        await one._working
        assert state(one)["tokens"] == pytest.approx(1000, abs=30)

    run(work)


async def killed(of: RateLimiter) -> None:
    """The worker is no more, with all its calls in flight."""
    of._working.cancel()
    await asyncio.gather(of._working, return_exceptions=True)
    of._wake = lambda: None


def test_the_calls_of_a_dead_worker_hold_nobody_up_for_long_and_those_of_a_slow_one_count(monkeypatch):
    monkeypatch.setattr(rate_limiter, "GONE_MS", 600)
    monkeypatch.setattr(rate_limiter, "SPEAK_SECONDS", 0.1)

    async def work(open_one):
        where = endpoint(in_flight=2, timeout_seconds=600)
        slow, dead, other = open_one(where), open_one(where), open_one(where)
        calls = [asyncio.create_task(call(one, seconds=1.5)) for one in (slow, dead)]
        await asyncio.sleep(0.1)
        await killed(dead)
        began = time.monotonic()
        await call(other)
        assert 0.4 < time.monotonic() - began < 1
        # The slow one is alive: it has its call in flight as long as that takes.
        await asyncio.gather(*(call(other, seconds=0.05) for _ in range(4)))
        assert not calls[0].done()
        assert await most_at_once([other], 4, 0.02) == 1
        await calls[0]
        assert await most_at_once([other], 4, 0.02) == 2
        calls[1].cancel()
        dead._over.clear()

    run(work)


def test_a_probe_that_dies_with_its_worker_is_followed_by_another(monkeypatch):
    monkeypatch.setattr(rate_limiter, "FIRST_REST_MS", 200)
    monkeypatch.setattr(rate_limiter, "GONE_MS", 400)

    async def work(open_one):
        where = endpoint(timeout_seconds=600)
        one, other = open_one(where), open_one(where)
        for _ in range(rate_limiter.NEWEST):
            await call(one, "failed")
        await asyncio.sleep(0.25)
        probe = asyncio.create_task(call(one, seconds=60))
        await asyncio.sleep(0.05)
        await killed(one)
        await asyncio.wait_for(call(other), 3)
        assert state(other)["open_for"] == 0
        probe.cancel()
        one._over.clear()

    run(work)


def test_without_redis_each_worker_keeps_to_a_safe_share(monkeypatch):
    monkeypatch.setattr(config, "redis_url", lambda: "redis://127.0.0.1:1/0")

    async def work(open_one):
        one = open_one(endpoint(in_flight=16))
        assert await most_at_once([one], 30, 0.01) == 4

    run(work)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m2.5s"}, 62.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "20s"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "soon"}, None),
        ({"retry-after": "3", "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "9s"}, 3),
        ({"retry-after-ms": "250"}, 0.25),
    ],
)
def test_what_the_headers_of_a_429_ask_for(headers, seconds):
    from types import SimpleNamespace

    from app.providers.teacher import _retry_after

    assert _retry_after(SimpleNamespace(response=SimpleNamespace(headers=headers))) == seconds
