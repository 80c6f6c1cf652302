"""Rate limits and latency of the simulated teacher, on a clock that the test moves."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest

from app.simulator.completions import Settings
from app.simulator.server import build_server
from tests.fakes import FakeClock

Post = Callable[[str], Awaitable[httpx.Response]]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def with_server(settings: Settings, clock: FakeClock, work: Callable[[Post], Awaitable[None]]) -> None:
    """Run `work(post)`; `post(text)` asks the teacher in this process for a completion."""

    async def run() -> None:
        transport = httpx.ASGITransport(build_server(settings, clock, clock.sleep))
        async with httpx.AsyncClient(transport=transport, base_url="http://teacher/v1") as client:

            async def post(text: str) -> httpx.Response:
                body = {"model": "seedbed-simulated", "messages": [{"role": "user", "content": text}]}
                return await client.post("/chat/completions", json=body)

            await work(post)

    asyncio.run(run())


def test_requests_per_minute_and_their_headers(clock):
    async def work(post: Post) -> None:
        answers = [await post(f"hello {n}") for n in range(60)]
        assert {answer.status_code for answer in answers} == {200}
        assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers[-2:]] == ["1", "0"]
        assert answers[-1].headers["x-ratelimit-reset-requests"] == "60.000s"
        refused = await post("hello 60")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert refused.headers["x-ratelimit-limit-requests"] == "60"
        assert (refused.headers["retry-after"], refused.headers["retry-after-ms"]) == ("1", "1000")
        clock.advance(0.5)
        assert (await post("hello 60")).headers["retry-after-ms"] == "500"
        clock.advance(0.75)
        assert [(await post("hello 60")).status_code for _ in range(2)] == [200, 429]

    with_server(Settings(requests_per_minute=60), clock, work)


def test_tokens_per_minute_are_those_of_prompt_and_completion(clock):
    async def work(post: Post) -> None:
        first = await post("hello")
        used = first.json()["usage"]["total_tokens"]
        assert int(first.headers["x-ratelimit-remaining-tokens"]) == 100 - used
        refused = await post("word " * 100)
        assert refused.status_code == 429 and "tokens per minute" in refused.json()["error"]["message"]
        clock.advance(60)
        assert (await post("word " * 100)).status_code == 200

    with_server(Settings(tokens_per_minute=100), clock, work)


def latencies(settings: Settings, clock: FakeClock) -> list[float]:
    """The seconds of three answers of a new server."""
    seconds = []

    async def work(post: Post) -> None:
        for text in ("hello", "goodbye", "thanks"):
            began = clock()
            await post(text)
            seconds.append(clock() - began)

    with_server(settings, clock, work)
    return seconds


def test_an_answer_takes_its_latency(clock):
    assert latencies(Settings(latency=0.25), clock) == [0.25] * 3


def test_a_tail_spreads_the_latency_and_the_seed_decides_it(clock):
    spread = latencies(Settings(latency=0.25, latency_tail=0.5), clock)
    assert len(set(spread)) == 3 and min(spread) > 0
    assert latencies(Settings(latency=0.25, latency_tail=0.5), clock) == pytest.approx(spread)
    assert latencies(Settings(latency=0.25, latency_tail=0.5, seed=1), clock) != pytest.approx(spread)
