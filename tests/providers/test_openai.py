"""The OpenAI protocol, over real HTTP with the real client: the conformance suite, and what only this protocol has."""

import json
import socket
import threading
from contextlib import contextmanager
from dataclasses import asdict, replace

import pytest

from app.providers.teacher import Served
from app.providers.teacher import complete as complete_call
from app.synth.teacher_errors import TeacherRefused, TryAgain
from app.synth.types import Usage
from tests.fakes import ScriptedServer, chat, error
from tests.providers.conformance import (
    PROMPT,
    SCHEMA,
    Answer,
    Behaviour,
    BrokenConnection,
    Failure,
    Garbage,
    Silence,
    TeacherConformance,
    make_endpoint,
    use,
)
from tests.waiting import HTTP_SECONDS, PROCESS_SECONDS

EVENTS = "text/event-stream"
# A success that is no completion.
GARBAGE = {
    "html": b"<html>busy</html>",
    "bytes": b"\xff\xfe not text",
    "nothing": b"",
    "no choices": b'{"choices": []}',
    "choices by name": b'{"choices": {"a": 1}}',
    "choices of text": b'{"choices": ["a"]}',
    "no message": b'{"choices": [{"index": 0}]}',
    "a list": b"[1]",
    "too deep": b"[" * 100_000,
}


class TestConformance(TeacherConformance):
    garbage = tuple(GARBAGE)

    @contextmanager
    def playing(self, behaviour: Behaviour):
        over = threading.Event()
        with ScriptedServer(lambda body: http_answer(behaviour, over)) as server:
            try:
                yield make_endpoint(base_url=server.url, timeout_seconds=HTTP_SECONDS)
            finally:
                over.set()


def http_answer(behaviour: Behaviour, over: threading.Event) -> tuple[int, dict, bytes] | None:
    match behaviour:
        case Answer(text, finish_reason, refusal, usage):
            return 200, {}, chat(text, finish_reason, refusal=refusal, usage=usage and openai_usage(usage))
        case Failure(status, code, headers):
            return status, headers, error(code)
        case Garbage(kind):
            return 200, {}, GARBAGE[kind]
        case Silence():
            over.wait(PROCESS_SECONDS)
        case BrokenConnection():
            # The server closes a connection on which it sent nothing.
            return None
    return None


def openai_usage(usage: Usage) -> dict:
    details = {"cached_tokens": usage.cached}
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "prompt_tokens_details": details,
    }


def complete(content: bytes, media_type: str = "application/json", **changes) -> tuple[Served, list[dict]]:
    prompt = replace(PROMPT, schema=SCHEMA)
    with ScriptedServer(lambda body: (200, {"content-type": media_type}, content)) as server:
        endpoint = make_endpoint(base_url=server.url, timeout_seconds=HTTP_SECONDS, **changes)
        return use(endpoint, lambda teacher: teacher.complete(prompt)), server.bodies


def test_the_mark_of_a_simulated_teacher():
    served, _ = complete(chat("x", system_fingerprint="simulated"))
    assert served.reply.simulated and served.model == "fake-1"


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": "many"},
        {"prompt_tokens": 10**30, "completion_tokens": 5},
        {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": "4"}},
        {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": -4}},
        [10, 5],
    ],
)
def test_usage_that_is_no_count_is_not_believed(usage):
    served, _ = complete(chat("x", usage=usage))
    assert served.reply.text == "x"
    usage = served.reply.usage
    assert all(isinstance(count, int) and 0 <= count < 10**9 for count in asdict(usage).values())
    assert usage.cached <= usage.prompt


def test_a_server_that_reports_zeros_does_not_count():
    served, _ = complete(chat("x", usage={"prompt_tokens": 0, "completion_tokens": 0}))
    assert served.usage_estimated and served.reply.usage.prompt > 0


def test_the_chunks_of_a_stream_are_joined():
    deltas = ({"role": "assistant", "reasoning": "Hm."}, {"content": "Hel"}, {"content": "lo"})
    chunks: list[dict] = [{"model": "m", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    cut = complete(stream(*chunks), EVENTS)[0].reply
    assert (cut.text, cut.thought, cut.finish_reason) == ("Hello", "Hm.", "length")
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": None})
    chunks.append({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7}})
    served, _ = complete(stream(*chunks), EVENTS)
    assert (served.reply.text, served.reply.finish_reason, served.model) == ("Hello", "stop", "m")
    assert (served.reply.usage.prompt, served.reply.usage.completion) == (5, 7)
    with pytest.raises(TeacherRefused):
        complete(stream({"error": {"code": 401, "message": "no"}}), EVENTS)


def stream(*chunks: dict) -> bytes:
    """The chunks as server-sent events, with a comment that keeps the connection alive."""
    events = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
    return f": processing\n\n{events}data: [DONE]\n\n".encode()


@pytest.mark.parametrize(
    ("field", "value"), [("finish_reason", 7), ("finish_reason", None), ("content", ["a"]), ("refusal", {"a": 1})]
)
def test_fields_of_another_type_are_read_as_absent(field, value):
    body = json.loads(chat("x"))
    choice = body["choices"][0]
    (choice if field == "finish_reason" else choice["message"])[field] = value
    reply = complete(json.dumps(body).encode())[0].reply
    assert isinstance(reply.text, str) and reply.finish_reason == "stop" and reply.refusal is None


@pytest.mark.parametrize("field", ["finish_reason", "message.content", "model", "usage"])
def test_fields_may_be_missing(field):
    body = json.loads(chat("x"))
    holders = {"finish_reason": body["choices"][0], "message.content": body["choices"][0]["message"]}
    del holders.get(field, body)[field.split(".")[-1]]
    reply = complete(json.dumps(body).encode())[0].reply
    assert (reply.text, reply.finish_reason) == ("" if field == "message.content" else "x", "stop")


def test_the_client_does_not_retry_by_itself():
    with ScriptedServer(lambda body: (500, {}, error("x"))) as server, pytest.raises(TryAgain):
        use(make_endpoint(base_url=server.url), lambda teacher: teacher.complete(PROMPT))
    assert len(server.bodies) == 1


def test_a_connection_that_is_refused_costs_nothing():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(TryAgain) as error_info:
        use(make_endpoint(base_url=f"http://127.0.0.1:{port}/v1"), lambda teacher: teacher.complete(PROMPT))
    assert error_info.value.paid is False


def test_the_schema_goes_along_only_where_the_teacher_takes_it():
    _, (body,) = complete(chat("x"))
    assert body["response_format"]["json_schema"]["name"] == "answer"
    assert (body["seed"], body["max_tokens"], body["temperature"]) == (3, 50, 0.5)
    _, (body,) = complete(chat("x"), replies="tagged")
    assert "response_format" not in body


REASONING = "4 is even."
MESSAGES_WITH_THOUGHT = {
    "deepseek, vllm, sglang, lm studio": {"content": "yes", "reasoning_content": REASONING},
    "ollama, openrouter, groq": {"content": "yes", "reasoning": REASONING},
    "both names": {"content": "yes", "reasoning": REASONING, "reasoning_content": REASONING},
    "openrouter's details": {
        "content": "yes",
        "reasoning_details": [
            {"type": "reasoning.text", "text": REASONING},
            {"type": "reasoning.encrypted", "data": 1},
        ],
    },
    "mistral": {
        "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": REASONING}]},
            {"type": "text", "text": "yes"},
        ]
    },
    "parts": {
        "content": [{"type": "reasoning", "summary": [{"text": REASONING}]}, {"type": "output_text", "text": "yes"}]
    },
    "tags": {"content": f"<think>{REASONING}</think>\nyes"},
}


@pytest.mark.parametrize("message", MESSAGES_WITH_THOUGHT.values(), ids=MESSAGES_WITH_THOUGHT)
def test_a_thought_is_read_from_each_place_where_servers_put_it(message):
    reply = served_message(message, {"prompt_tokens": 9, "completion_tokens": 8}).reply
    assert (reply.text, reply.thought) == ("yes", REASONING)
    assert 0 < reply.usage.thought <= reply.usage.completion == 8


def test_the_server_counts_the_thought_and_says_whether_it_is_part_of_the_completion():
    message, details = {"content": "yes", "reasoning": REASONING}, {"reasoning_tokens": 6}
    counts = {"prompt_tokens": 9, "completion_tokens": 8, "completion_tokens_details": details}
    assert served_message(message, counts | {"total_tokens": 17}).reply.usage == Usage(9, 0, 8, 6)
    assert served_message(message, counts | {"total_tokens": 23}).reply.usage == Usage(9, 0, 14, 6)


def served_message(message: dict, usage: dict) -> Served:
    body = {
        "model": "m",
        "choices": [{"message": {"role": "assistant", **message}, "finish_reason": "stop"}],
        "usage": usage,
    }
    with ScriptedServer(lambda request: (200, {}, json.dumps(body).encode())) as server:
        return use(make_endpoint(base_url=server.url), lambda teacher: complete_call(teacher, PROMPT))


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        ({"code": 401, "message": "No auth credentials found"}, "credentials_refused"),
        ({"code": 402, "message": "Insufficient credits"}, "quota_exhausted"),
        ({"code": 429, "message": "slow down"}, TryAgain),
        ({"code": 502, "message": "Bad gateway"}, TryAgain),
        ({"message": "late"}, TryAgain),
        ({"code": 400, "message": "maximum context length is 10"}, "context_length"),
    ],
)
@pytest.mark.parametrize("in_choice", [False, True])
def test_an_error_inside_a_success_is_no_answer(error, meaning, in_choice):
    body = {"choices": [{"error": error, "message": {"content": ""}}]} if in_choice else {"error": error}
    with ScriptedServer(lambda request: (200, {}, json.dumps(body).encode())) as server:
        endpoint = make_endpoint(base_url=server.url)
        if meaning == "context_length":
            served = use(endpoint, lambda teacher: complete_call(teacher, PROMPT))
            assert served.reply.finish_reason == meaning
            return
        with pytest.raises((TryAgain, TeacherRefused)) as raised:
            use(endpoint, lambda teacher: complete_call(teacher, PROMPT))
    if meaning is TryAgain:
        assert isinstance(raised.value, TryAgain) and raised.value.throttled == (error.get("code") == 429)
        assert raised.value.paid is (None if in_choice else False)
    else:
        assert raised.value.stop_reason == meaning
