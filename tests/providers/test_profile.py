"""What a check learns about odd servers, and that later requests follow it."""

import asyncio
import json
from dataclasses import replace

import pytest

from app.calls.teacher_endpoints import endpoint
from app.config import TeacherConfig
from app.providers.checking import FormCheck, check
from app.providers.probing import MAX_CALLS
from app.providers.profile import THOUGHT_ALLOWANCE, TeacherProfile
from tests.fakes import ScriptedServer, chat
from tests.providers.conformance import make_endpoint
from tests.simulator.conftest import serve
from tests.waiting import HTTP_SECONDS

__all__ = ["serve"]

ITEMS = json.dumps({"instances": [{"input": "cat", "output": "cats"}, {"input": "box", "output": "boxes"}]})
SUCCESS = 200, {}, chat(ITEMS)


def refusal(message: str, param: str | None = None) -> tuple[int, dict, bytes]:
    return (
        400,
        {},
        json.dumps({"error": {"message": message, "type": "invalid_request_error", "param": param}}).encode(),
    )


def check_server(answer, models=None) -> tuple[FormCheck, list[dict]]:
    with ScriptedServer(answer, models) as server:
        result = asyncio.run(check(make_endpoint(base_url=server.url, timeout_seconds=HTTP_SECONDS)))
    return result, server.bodies


def refusing(names: dict[str, str]):
    """A server that refuses these fields, each with its message."""
    return lambda body: next((refusal(text) for name, text in names.items() if name in body), SUCCESS)


def test_an_ordinary_server_takes_two_calls():
    result, bodies = check_server(lambda body: SUCCESS, [{"id": "m", "max_model_len": 8192}])
    profile = result.profile
    assert (result.replies, profile.replies, len(bodies)) == ("json_schema", "json_schema", 2)
    assert (profile.drops, profile.max_tokens_name, profile.thought) == ((), "max_tokens", "none")
    assert (profile.honours_n, profile.has_logprobs, profile.context_tokens) == (False, False, 8192)
    assert profile.usage_trusted and len(profile.evidence) == 2
    assert profile.evidence[0].sent == "json_schema" and "stop, 10 + 5 tokens" in profile.evidence[0].received


def test_fields_that_are_refused_are_renamed_or_dropped():
    answer = refusing(
        {
            "max_tokens": "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            "temperature": "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) "
            "value is supported.",
            "top_p": "Unsupported parameter: 'top_p' is not supported with this model.",
            "seed": "seed: Extra inputs are not permitted",
        }
    )
    result, bodies = check_server(answer)
    assert result.profile.max_tokens_name == "max_completion_tokens"
    assert result.profile.drops == ("temperature", "top_p", "seed")
    assert result.replies == "json_schema" and len(bodies) <= MAX_CALLS
    assert not {"max_tokens", "temperature", "top_p", "seed"} & set(bodies[-1])


@pytest.mark.parametrize(
    "message", ["System role not supported", "Conversation roles must alternate user/assistant/user/assistant/..."]
)
def test_a_system_message_that_is_refused_is_folded(message):
    has_system = lambda body: body["messages"][0]["role"] == "system"  # noqa: E731
    result, bodies = check_server(lambda body: refusal(message) if has_system(body) else SUCCESS)
    assert result.profile.system_turn == "folded" and result.replies == "json_schema"
    assert bodies[1]["messages"][0]["content"].startswith("You work out examples of a task.")


def test_a_server_that_only_streams_is_asked_for_streams():
    chunk = {"choices": [{"index": 0, "delta": {"content": ITEMS}, "finish_reason": "stop"}]}
    stream = 200, {"content-type": "text/event-stream"}, f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode()
    message = "This model only support stream mode, please enable the stream parameter to access the model."
    result, _ = check_server(lambda body: stream if body.get("stream") else refusal(message))
    assert result.profile.streams and result.replies == "json_schema"
    assert not result.profile.usage_trusted


@pytest.mark.parametrize(
    ("message", "thought"),
    [
        ({"content": f"<think>\nTwo words.\n</think>\n{ITEMS}"}, "tags"),
        ({"content": f"Two words.\n</think>\n{ITEMS}"}, "opened"),
        ({"content": ITEMS, "reasoning_content": "Two words."}, "field"),
    ],
)
def test_the_place_of_the_thought_is_found(message, thought):
    body = json.loads(chat(""))
    body["choices"][0]["message"] |= message
    result, _ = check_server(lambda _: (200, {}, json.dumps(body).encode()))
    assert (result.profile.thought, result.profile.thought_tokens) == (thought, THOUGHT_ALLOWANCE)


def test_a_thought_that_was_cut_gets_more_tokens():
    def answer(body):
        if body["max_tokens"] < THOUGHT_ALLOWANCE:
            return 200, {}, chat("<think>\nLet me think", "length")
        return 200, {}, chat(f"<think>\nDone.\n</think>\n{ITEMS}")

    result, bodies = check_server(answer)
    assert (result.replies, result.profile.thought) == ("json_schema", "tags")
    assert bodies[1]["max_tokens"] == 300 + THOUGHT_ALLOWANCE


def test_several_replies_and_log_probabilities_are_found_apart():
    def answer(body):
        if "logprobs" in body:
            return refusal("logprobs is not supported", "logprobs")
        completion = json.loads(chat(ITEMS))
        return 200, {}, json.dumps(completion | {"choices": completion["choices"] * body.get("n", 1)}).encode()

    profile = check_server(answer)[0].profile
    assert (profile.honours_n, profile.has_logprobs, profile.drops) == (True, False, ())


@pytest.mark.parametrize(
    ("personality", "learnt"),
    [
        ("refuses_max_tokens", {"max_tokens_name": "max_completion_tokens"}),
        ("refuses_temperature", {"drops": ("temperature",)}),
        ("refuses_seed", {"drops": ("seed",)}),
        ("refuses_system_role", {"system_turn": "folded"}),
        ("streams_unasked", {"streams": False}),
    ],
)
def test_the_habits_of_real_servers_are_learnt(serve, personality, learnt):
    url = serve("--personality", f"{personality}:0.999")
    simulated = make_endpoint(base_url=url, model="seedbed-simulated", timeout_seconds=HTTP_SECONDS)
    profile = asyncio.run(check(simulated)).profile
    assert {name: getattr(profile, name) for name in learnt} == learnt
    assert profile.replies == "json_schema"


def test_a_profile_survives_its_storage():
    profile = check_server(lambda body: SUCCESS)[0].profile
    assert TeacherProfile.from_json(json.loads(json.dumps(profile.to_json()))) == profile
    assert TeacherProfile.from_json({}) == TeacherProfile()


def test_the_configuration_has_priority_over_the_profile():
    profile = TeacherProfile(max_tokens_name="max_completion_tokens", drops=("seed",), thought="opened", streams=True)
    configured = TeacherConfig(name="t", base_url="http://x", model="m")
    learnt = endpoint(configured, "tagged", profile)
    assert (learnt.thought_tokens, learnt.opens_thought) == (THOUGHT_ALLOWANCE, True)
    settings = learnt.settings
    assert (settings.max_tokens_name, settings.drops, settings.streams) == ("max_completion_tokens", ("seed",), True)
    fields = {"max_tokens_name": "max_tokens", "drops": ("top_p",), "thought_tokens": 0, "opens_thought": False}
    set_by_operator = endpoint(replace_fields(configured, streams=False, **fields), "tagged", profile)
    assert (set_by_operator.thought_tokens, set_by_operator.opens_thought) == (0, False)
    assert set_by_operator.settings == replace(
        settings, max_tokens_name="max_tokens", drops=("top_p", "seed"), streams=False
    )


def replace_fields(configured: TeacherConfig, **fields) -> TeacherConfig:
    return TeacherConfig(**configured.model_dump(exclude_unset=True) | fields)
