"""What a teacher's answers and failures mean, by a table of cases, over real HTTP with the real client."""

import asyncio
import socket
from decimal import Decimal

import pytest

from app.providers.teacher import Endpoint, Served, Teacher, TeacherRefused, TryAgain
from app.synth.prices import Prices
from app.synth.types import Prompt, Usage
from tests.fakes import ScriptedServer, chat, error
from tests.waiting import HTTP_SECONDS, PROCESS_SECONDS

PRICES = Prices(Decimal("0.15"), Decimal("0.075"), Decimal("0.60"))
PROMPT = Prompt(
    step="instructions",
    position="p",
    system="s",
    user="u",
    schema={"title": "answer", "type": "object", "properties": {"a": {"type": "string"}}},
    temperature=0.5,
    max_tokens=50,
    template="t",
    seed=3,
)


def complete(answer, replies="json_schema", timeout=HTTP_SECONDS) -> tuple[Served, list[dict]]:
    async def ask(url):
        teacher = Teacher(Endpoint("t", url, "m", "key", PRICES, timeout_seconds=timeout, replies=replies))
        try:
            return await teacher.complete(PROMPT)
        finally:
            await teacher.close()

    with ScriptedServer(lambda body: answer) as server:
        return asyncio.run(ask(server.url)), server.bodies


@pytest.mark.parametrize(
    ("content", "finish", "text", "reason"),
    [
        (chat("hello"), "stop", "hello", "stop"),
        (chat("hel", "length"), "length", "hel", "length"),
        (chat(None), "stop", "", "stop"),
        (chat("", "content_filter"), "content_filter", "", "content_filter"),
        (b'{"choices": []}', None, None, "unreadable"),
        (b'{"error": {"message": "late"}}', None, None, "unreadable"),
        (b"<html>busy</html>", None, None, "unreadable"),
        (b"\xff\xfe not text", None, None, "unreadable"),
    ],
)
def test_a_200_is_always_served(content, finish, text, reason):
    served, _ = complete((200, {}, content))
    assert served.reply.finish_reason == reason
    if text is not None:
        assert served.reply.text == text
    assert served.usage_estimated == (reason == "unreadable")


def test_usage_refusal_and_the_mark_of_a_simulated_teacher():
    details = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
    served, _ = complete((200, {}, chat("x", usage=details, system_fingerprint="simulated", refusal="no")))
    assert served.reply.usage == Usage(10, 4, 5)
    assert served.reply.simulated
    assert served.reply.refusal == "no"
    assert served.model == "fake-1"


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": -1, "completion_tokens": 2}, {"prompt_tokens": "many"}])
def test_usage_that_is_missing_or_wrong_is_estimated(usage):
    served, _ = complete((200, {}, chat("x" * 400, usage=usage)))
    assert served.usage_estimated
    assert served.reply.usage.completion == 101


@pytest.mark.parametrize(
    ("status", "code", "stop_reason"),
    [
        (401, "invalid_api_key", "credentials_refused"),
        (403, "forbidden", "credentials_refused"),
        (402, "payment", "quota_exhausted"),
        (429, "insufficient_quota", "quota_exhausted"),
        (404, "model_not_found", "model_unknown"),
        (400, "bad_schema", "request_refused"),
    ],
)
def test_what_ends_a_run(status, code, stop_reason):
    with pytest.raises(TeacherRefused, match="in words") as found:
        complete((status, {}, error(code)))
    assert found.value.stop_reason == stop_reason


@pytest.mark.parametrize(
    ("status", "headers", "after", "throttled"),
    [
        (429, {"retry-after": "2"}, 2.0, True),
        (429, {"retry-after-ms": "150", "retry-after": "9"}, 0.15, True),
        (429, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None, True),
        (429, {"retry-after": "99999"}, 120.0, True),
        (500, {}, None, False),
        (503, {}, None, True),
        (408, {}, None, False),
    ],
)
def test_what_is_tried_again(status, headers, after, throttled):
    with pytest.raises(TryAgain) as found:
        complete((status, headers, error("rate_limit_exceeded")))
    assert (found.value.after, found.value.throttled, found.value.paid) == (after, throttled, False)


def test_the_client_does_not_retry_by_itself():
    with ScriptedServer(lambda body: (500, {}, error("x"))) as server:

        async def ask():
            teacher = Teacher(Endpoint("t", server.url, "m", "key", PRICES))
            with pytest.raises(TryAgain):
                await teacher.complete(PROMPT)
            await teacher.close()

        asyncio.run(ask())
    assert len(server.bodies) == 1


def test_a_prompt_that_is_too_long_costs_one_row():
    served, _ = complete((400, {}, error("context_length_exceeded")))
    assert served.reply.finish_reason == "context_length"
    assert served.reply.usage == Usage()


def test_a_server_that_hangs_is_given_up_and_may_have_been_paid():
    import threading

    release = threading.Event()

    def hang(body):
        release.wait(PROCESS_SECONDS)

    async def ask(url):
        teacher = Teacher(Endpoint("t", url, "m", "key", PRICES, timeout_seconds=0.3))
        try:
            return await teacher.complete(PROMPT)
        finally:
            await teacher.close()

    with ScriptedServer(hang) as server, pytest.raises(TryAgain) as found:
        try:
            asyncio.run(ask(server.url))
        finally:
            release.set()
    assert found.value.paid is None


def test_a_connection_that_is_refused_costs_nothing():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    async def ask():
        teacher = Teacher(Endpoint("t", f"http://127.0.0.1:{port}/v1", "m", "key", PRICES))
        try:
            await teacher.complete(PROMPT)
        finally:
            await teacher.close()

    with pytest.raises(TryAgain) as found:
        asyncio.run(ask())
    assert found.value.paid is False


def test_the_schema_goes_along_only_where_the_teacher_takes_it():
    _, (body,) = complete((200, {}, chat("x")))
    assert body["response_format"]["json_schema"]["name"] == "answer"
    assert (body["seed"], body["max_tokens"], body["temperature"]) == (3, 50, 0.5)
    _, (body,) = complete((200, {}, chat("x")), replies="tagged")
    assert "response_format" not in body


def test_cost_is_decimal_and_never_below_the_price():
    assert PRICES.cost(Usage(1_000_000, 0, 0)) == Decimal("0.15")
    assert PRICES.cost(Usage(1_000_000, 1_000_000, 0)) == Decimal("0.075")
    assert PRICES.cost(Usage(1, 0, 0)) == Decimal("0.000000150")
    tokens, dollars = PRICES.worst(PROMPT)
    assert tokens >= 50 + 2 and dollars >= PRICES.cost(Usage(2, 0, 50))
