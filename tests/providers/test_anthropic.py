"""Anthropic's Messages API, over real HTTP with the real client: the conformance suite, and what only it has.

Answers and errors are built from the types of the official client, so that a field which does not exist fails here.
"""

import json
import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest
from anthropic.types import (
    ErrorResponse,
    InvalidRequestErrorObject,
    Message,
    RedactedThinkingBlock,
    RefusalStopDetails,
    TextBlock,
    ThinkingBlock,
)
from anthropic.types import Usage as AnthropicUsage

from app.providers.adapters.anthropic.meaning import text_and_thought
from app.providers.teacher import Served
from app.synth.teacher_errors import TeacherRefused, TryAgain
from app.synth.types import Usage
from tests.fakes import ScriptedServer
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

# A success that is no message.
GARBAGE = {
    "html": b"<html>busy</html>",
    "bytes": b"\xff\xfe not text",
    "nothing": b"",
    "no content": b'{"type": "message"}',
    "content of text": b'{"content": "hello"}',
    "content by name": b'{"content": {"a": 1}}',
    "an error": b'{"type": "error", "error": {"type": "api_error", "message": "late"}}',
    "a list": b"[1]",
    "too deep": b"[" * 100_000,
}
STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}
TYPES_BY_STATUS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
}


class TestConformance(TeacherConformance):
    garbage = tuple(GARBAGE)
    # The protocol has no seed, and takes either top_p or temperature.
    fields_without_effect = frozenset({"seed", "temperature"})

    @contextmanager
    def playing(self, behaviour: Behaviour):
        over = threading.Event()
        with ScriptedServer(lambda body: http_answer(behaviour, over)) as server:
            try:
                yield anthropic_endpoint(server, timeout_seconds=HTTP_SECONDS)
            finally:
                over.set()


def anthropic_endpoint(server: ScriptedServer, **settings):
    return make_endpoint(protocol="anthropic", base_url=server.url.removesuffix("/v1"), **settings)


def http_answer(behaviour: Behaviour, over: threading.Event) -> tuple[int, dict, bytes] | None:
    match behaviour:
        case Answer(text, finish_reason, refusal, usage):
            return 200, {}, conformance_answer(text, finish_reason, refusal, usage)
        case Failure(status, code, headers):
            return status, headers, conformance_error(status, code)
        case Garbage(kind):
            return 200, {}, GARBAGE[kind]
        case Silence():
            over.wait(PROCESS_SECONDS)
        case BrokenConnection():
            # The server closes a connection on which it sent nothing.
            return None
    return None


def conformance_answer(text: str, finish_reason: str, refusal: str | None, usage: Usage | None) -> bytes:
    details = refusal and RefusalStopDetails(type="refusal", explanation=refusal)
    body = message(
        text, "refusal" if refusal else STOP_REASONS[finish_reason], stop_details=details, usage=anthropic_usage(usage)
    )
    if usage is None:
        del body["usage"]
    return json.dumps(body).encode()


def conformance_error(status: int, code: str) -> bytes:
    if code == "context_length_exceeded":
        return error(CAPTURED_TOO_LONG)
    spent = code == "insufficient_quota"
    return error("a message", TYPES_BY_STATUS.get(status, code), "enforced_spend_limit_reached" if spent else None)


def anthropic_usage(usage: Usage | None) -> AnthropicUsage:
    usage = usage or Usage()
    return AnthropicUsage(
        input_tokens=usage.prompt - usage.cached,
        cache_read_input_tokens=usage.cached,
        cache_creation_input_tokens=0,
        output_tokens=usage.completion,
    )


def message(text: str = "x", stop_reason: str = "end_turn", content: list | None = None, **fields) -> dict:
    """The body of an answer, as JSON values."""
    settings = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-test",
        "usage": AnthropicUsage(input_tokens=10, output_tokens=5),
        "content": [TextBlock.construct(type="text", text=text)] if content is None else content,
        "stop_reason": stop_reason,
    }
    # `construct`: half a character is no text for the validation of the type. A surrogate can't be dumped as JSON.
    return Message.construct(**settings | fields).model_dump(mode="python")


def error(text: str, error_type: str = "invalid_request_error", error_code: str | None = None) -> bytes:
    if error_type == "invalid_request_error":
        details = InvalidRequestErrorObject(type=error_type, message=text)
        body = ErrorResponse(type="error", error=details, request_id="req_1").model_dump(mode="json")
    else:
        body = {"type": "error", "error": {"type": error_type, "message": text}, "request_id": "req_1"}
    if error_code:
        body["error"]["details"] = {"error_code": error_code}
    return json.dumps(body).encode()


def complete(body: dict, prompt=PROMPT, **changes) -> tuple[Served, dict]:
    content = json.dumps(body).encode()
    with ScriptedServer(lambda request: (200, {}, content)) as server:
        endpoint = anthropic_endpoint(server, timeout_seconds=HTTP_SECONDS, **changes)
        return use(endpoint, lambda teacher: teacher.complete(prompt)), server.bodies[0]


def refuse(status: int, content: bytes, headers: dict | None = None) -> TeacherRefused | TryAgain | Served:
    with ScriptedServer(lambda request: (status, headers or {}, content)) as server:
        try:
            return use(anthropic_endpoint(server), lambda teacher: teacher.complete(PROMPT))
        except (TeacherRefused, TryAgain) as failure:
            assert len(server.bodies) == 1, "the client tried again by itself"
            return failure


def test_thinking_is_no_part_of_the_text():
    content = [
        ThinkingBlock(type="thinking", thinking="Let me see.", signature="s"),
        RedactedThinkingBlock(type="redacted_thinking", data="c2VjcmV0"),
        TextBlock(type="text", text="The answer "),
        TextBlock(type="text", text="is 4."),
    ]
    served, _ = complete(message(content=content))
    assert served.reply.text == "The answer is 4."
    assert text_and_thought(content) == ("The answer is 4.", "Let me see.")


@pytest.mark.parametrize(
    ("stop_reason", "finish_reason"),
    [
        ("stop_sequence", "stop"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "pause_turn"),
        (None, "stop"),
        (7, "stop"),
    ],
)
def test_stop_reasons(stop_reason, finish_reason):
    assert complete(message(stop_reason=stop_reason))[0].reply.finish_reason == finish_reason


def test_a_classifier_that_ends_an_answer_without_explanation_is_a_filter():
    reply = complete(message("", "refusal", stop_details=RefusalStopDetails(type="refusal", category="bio")))[0].reply
    assert (reply.finish_reason, reply.refusal) == ("content_filter", None)


def test_what_was_written_to_the_cache_is_part_of_the_prompt():
    usage = AnthropicUsage(
        input_tokens=10, cache_creation_input_tokens=100, cache_read_input_tokens=1000, output_tokens=5
    )
    served, _ = complete(message(usage=usage))
    assert (served.reply.usage, served.usage_estimated) == (Usage(1110, 1000, 5), False)


@pytest.mark.parametrize("usage", [{"input_tokens": "many"}, {"input_tokens": 10**30, "output_tokens": 5}, [1], None])
def test_usage_that_is_no_count_is_not_believed(usage):
    served, _ = complete(message("x" * 400) | {"usage": usage})
    assert served.usage_estimated and served.reply.usage.completion == 101


@pytest.mark.parametrize("content", [[7], ["text"], [{"type": "text"}], [{"type": "text", "text": ["a"]}], []])
def test_blocks_of_another_form_have_no_text(content):
    assert complete(message() | {"content": content})[0].reply.text == ""


def test_the_system_text_and_the_turns_are_fields_of_their_own():
    _, body = complete(message())
    assert body["system"] == "s"
    assert [(turn["role"], turn["content"]) for turn in body["messages"]] == [
        ("user", "earlier"),
        ("assistant", "later"),
        ("user", "u"),
    ]
    assert body["max_tokens"] == 50 and "seed" not in body
    assert "system" not in complete(message(), replace(PROMPT, system=""))[1]


def test_the_schema_goes_along_without_the_bounds_that_the_protocol_refuses():
    schema = SCHEMA | {
        "properties": {"a": {"type": "array", "items": {"type": "integer", "maximum": 5}, "maxItems": 3}}
    }
    _, body = complete(message(), replace(PROMPT, schema=schema))
    sent = body["output_config"]["format"]
    assert sent["type"] == "json_schema" and sent["schema"]["additionalProperties"] is False
    array = sent["schema"]["properties"]["a"]
    assert "maxItems" not in array and "maximum" not in array["items"]
    for form in ("json_object", "tagged"):
        assert "output_config" not in complete(message(), replace(PROMPT, schema=schema), replies=form)[1]


@pytest.mark.parametrize(
    ("model", "with_top_p", "without"),
    [
        ("claude-3-5-haiku-20241022", {"top_p": 0.9}, {"temperature": 0.5}),
        ("claude-opus-4-20250514", {"top_p": 0.9}, {"temperature": 0.5}),
        ("claude-sonnet-4-6", {"top_p": 0.9}, {"temperature": 0.5}),
        ("my-model", {"top_p": 0.9}, {"temperature": 0.5}),
        ("claude-opus-4-7", {}, {}),
        ("claude-sonnet-5", {}, {}),
        ("claude-haiku-5-5-20260901", {}, {}),
        ("claude-mythos-preview", {}, {}),
    ],
)
def test_a_model_gets_the_fields_of_sampling_that_it_accepts(model, with_top_p, without):
    for prompt, expected in ((PROMPT, with_top_p), (replace(PROMPT, top_p=None), without)):
        body = complete(message(), prompt, model=model)[1]
        assert {name: body[name] for name in ("temperature", "top_p") if name in body} == expected


def test_a_temperature_above_one_is_sent_as_one():
    assert complete(message(), replace(PROMPT, top_p=None, temperature=1.5))[1]["temperature"] == 1


# https://github.com/anthropics/claude-code/issues/12186
CAPTURED_TOO_LONG = "prompt is too long: 208310 tokens > 200000 maximum"
# https://github.com/docker/docker-agent/issues/569
CAPTURED_EXCEEDS_CONTEXT = (
    "input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000, "
    "decrease input length or `max_tokens` and try again"
)


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (400, error(CAPTURED_TOO_LONG)),
        (400, error(CAPTURED_EXCEEDS_CONTEXT)),
        # https://platform.claude.com/docs/en/api/errors: over 32 MB, answered by the proxy before the API.
        (413, error("Request exceeds the maximum size", "request_too_large")),
        (413, b"<html>413 Request Entity Too Large</html>"),
    ],
)
def test_a_prompt_that_is_too_long_is_a_reply(status, content):
    served = refuse(status, content)
    assert (served.reply.finish_reason, served.reply.usage, served.usage_estimated) == (
        "context_length",
        Usage(),
        False,
    )


@pytest.mark.parametrize(
    ("status", "content", "stop_reason"),
    [
        # https://github.com/anthropics/claude-code/issues/66314
        (
            400,
            error(
                "Your credit balance is too low to access the Anthropic API. "
                "Please go to Plans & Billing to upgrade or purchase credits."
            ),
            "quota_exhausted",
        ),
        # https://github.com/anthropics/claude-code/issues/38035
        (
            400,
            error(
                "You have reached your specified API usage limits. You will regain access on 2026-04-01 at 00:00 UTC."
            ),
            "quota_exhausted",
        ),
        # The codes have no captured message in public; they are those of the client's error classes.
        (429, error("a message", "rate_limit_error", "contract_spend_limit_reached"), "quota_exhausted"),
        (402, error("a message", "billing_error", "linked_organization_spend_limit_reached"), "quota_exhausted"),
        (400, error("a message", error_code="organization_on_hold"), "credentials_refused"),
        # https://github.com/The-PR-Agent/pr-agent/issues/2456
        (400, error("`temperature` is deprecated for this model."), "request_refused"),
    ],
)
def test_what_ends_a_run(status, content, stop_reason):
    failure = refuse(status, content)
    assert isinstance(failure, TeacherRefused) and failure.stop_reason == stop_reason


def test_a_refused_schema_says_what_to_do():
    # https://github.com/ghostlobster/memorize-everything/issues/93
    message = "output_config.format.schema: For 'array' type, 'minItems' values other than 0 or 1 are not supported"
    failure = refuse(400, error(message))
    assert isinstance(failure, TeacherRefused) and "seedbed teachers check" in str(failure)


@pytest.mark.parametrize(
    ("status", "content", "headers", "after", "throttled"),
    [
        # https://github.com/anthropics/anthropic-sdk-typescript/issues/616
        (529, error("Overloaded", "overloaded_error"), {"x-should-retry": "true"}, None, True),
        (429, error("a message", "rate_limit_error", "ramp_limit_exceeded"), {"retry-after": "7"}, 7.0, True),
        # https://platform.claude.com/docs/en/api/errors
        (500, error("Internal server error", "api_error"), {}, None, False),
        (504, error("a message", "timeout_error"), {}, None, False),
    ],
)
def test_what_is_tried_again(status, content, headers, after, throttled):
    failure = refuse(status, content, headers)
    assert isinstance(failure, TryAgain)
    assert (failure.after, failure.throttled, failure.paid) == (after, throttled, False)
