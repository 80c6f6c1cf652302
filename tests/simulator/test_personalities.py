"""Personalities of the simulated teacher: how they are selected, at which rate, and how they are billed."""

import httpx
import pytest

from app.simulator.completions import CompletionWriter, Settings
from app.simulator.personalities.personality import Call
from app.simulator.personalities.registry import PERSONALITIES, parse_selection
from app.simulator.protocol import ChatRequest
from app.simulator.usage_counter import UsageCounter
from tests.waiting import HTTP_SECONDS

MODEL = "seedbed-simulated"


def ask(url: str, model: str, content: str = "Why is the sea salty?") -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": content}]}
    return httpx.post(f"{url}/chat/completions", json=body, timeout=HTTP_SECONDS)


def test_the_model_selects_personalities_and_has_a_bill_of_its_own(serve):
    url = serve()
    plain, thinking = ask(url, MODEL).json(), ask(url, f"{MODEL}+think+usage_missing").json()
    assert "<think>" in thinking["choices"][0]["message"]["content"] and "usage" not in thinking
    assert "<think>" not in plain["choices"][0]["message"]["content"]
    models = httpx.get(url.removesuffix("/v1") + "/stats", timeout=HTTP_SECONDS).json()["models"]
    assert models[MODEL]["completion"] == plain["usage"]["completion_tokens"]
    assert models[f"{MODEL}+think+usage_missing"]["completion"] > models[MODEL]["completion"]


def test_an_option_gives_a_personality_to_every_model(serve):
    assert ask(serve("--personality", "error_500"), MODEL).status_code == 500


@pytest.mark.parametrize("selection", ["unheard", "think:2", "think:much"])
def test_an_unknown_personality_is_an_unknown_model(serve, selection):
    answer = ask(serve(), f"{MODEL}+{selection}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def call(number: int, attempt: int = 0, model: str = MODEL) -> Call:
    return Call(ChatRequest(model=model, messages=[{"role": "user", "content": "x"}]), f"hash {number}", attempt)


@pytest.mark.parametrize("name", ["think", "error_500"])
def test_a_rate_is_a_share_of_the_requests_and_the_same_every_time(name):
    selection = parse_selection(f"{name}:0.3")
    changed = [selection.applies_to(call(number), seed=1) for number in range(2000)]
    assert changed == [selection.applies_to(call(number), seed=1) for number in range(2000)]
    assert 0.25 < sum(changed) / 2000 < 0.35


def test_a_fault_of_a_moment_is_drawn_anew_for_each_try():
    def attempts(name: str) -> set[bool]:
        return {parse_selection(f"{name}:0.5").applies_to(call(1, attempt), seed=1) for attempt in range(30)}

    assert attempts("error_500") == {True, False}
    assert len(attempts("content_filter")) == 1


@pytest.mark.parametrize("name", PERSONALITIES)
def test_no_reply_has_more_tokens_than_the_request_allows(name):
    writer, request = CompletionWriter(Settings(), UsageCounter()), call(1)
    request.request.max_tokens = 30
    _, bill = writer.write(request, None, [PERSONALITIES[name]])
    assert bill.completion <= 30
