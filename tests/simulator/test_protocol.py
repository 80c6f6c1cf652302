"""The OpenAI protocol, tested with the real client against a real process."""

import json

import httpx
import openai
import pytest

from tests.waiting import HTTP_SECONDS, PROCESS_SECONDS

MODEL = "seedbed-simulated"
DEMONSTRATIONS = "<demonstrations>\n1. Name a fruit that is red.\n2. Explain tides to a child.\n</demonstrations>"


def schema(name: str, properties: dict) -> dict:
    body = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": body}}


INSTRUCTIONS = schema("instructions", {"instructions": {"type": "array", "items": {"type": "string"}, "maxItems": 6}})


def ask(url: str, content: str, response_format: dict | None = INSTRUCTIONS, **options):
    key, timeout = options.pop("key", "any"), options.pop("timeout", HTTP_SECONDS)
    client = openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=timeout)
    if response_format is not None:
        options["response_format"] = response_format
    return client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": content}], **options)


@pytest.fixture(scope="module")
def url(serve) -> str:
    return serve("--near-duplicates", "0")


def test_a_chat_completion(url):
    answer = ask(url, f"{DEMONSTRATIONS}\nWrite 6 new tasks.", seed=1)
    assert (answer.model, answer.system_fingerprint) == (MODEL, "simulated")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    instructions = json.loads(answer.choices[0].message.content)["instructions"]
    assert len(instructions) == len(set(instructions)) == 6


def test_a_stream_has_the_text_of_the_completion_and_its_usage(url):
    whole = ask(url, DEMONSTRATIONS, seed=1)
    chunks = list(ask(url, DEMONSTRATIONS, seed=1, stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert len(json.loads("".join(delta.content or "" for delta in deltas))["instructions"]) == 6
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason == "stop"
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens


def test_models(url):
    client = openai.OpenAI(base_url=url, api_key="any")
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("another")


def test_the_same_request_gets_the_same_reply_and_another_seed_another_reply(serve, url):
    def reply_text(url, seed):
        return ask(url, DEMONSTRATIONS, seed=seed).choices[0].message.content

    assert reply_text(url, 5) == reply_text(url, 5) != reply_text(url, 6)
    assert reply_text(serve("--seed", "1", "--near-duplicates", "0"), 5) != reply_text(url, 5)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{not json", 400),
        (b"[]", 400),
        (json.dumps({"model": MODEL}).encode(), 400),
        (json.dumps({"model": MODEL, "messages": []}).encode(), 400),
        (
            json.dumps(
                {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "stream": True, "n": 2}
            ).encode(),
            400,
        ),
        (json.dumps({"model": "gpt-9", "messages": [{"role": "user", "content": "hi"}]}).encode(), 404),
    ],
)
def test_bad_requests_have_the_errors_of_the_protocol(url, body, status):
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{url}/chat/completions", content=body, headers=headers, timeout=HTTP_SECONDS)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_reply_is_cut_at_max_tokens(url):
    answer = ask(url, DEMONSTRATIONS, max_tokens=20)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens <= 20


def test_the_server_refuses_a_wrong_api_key(serve):
    url = serve("--api-key", "right")
    assert ask(url, DEMONSTRATIONS, key="right").choices
    with pytest.raises(openai.AuthenticationError) as error_info:
        ask(url, DEMONSTRATIONS, key="wrong")
    assert error_info.value.code == "invalid_api_key"


def test_an_answer_arrives_only_after_its_latency(serve):
    with pytest.raises(openai.APITimeoutError):
        ask(serve("--latency", "600"), DEMONSTRATIONS, timeout=1)


def test_the_options_of_rate_reach_the_server(serve):
    url = serve("--requests-per-minute", "60", "--tokens-per-minute", "9000")
    headers = httpx.get(f"{url}/models", timeout=HTTP_SECONDS).headers
    assert headers["x-ratelimit-limit-requests"] == "60"
    assert headers["x-ratelimit-limit-tokens"] == "9000"


@pytest.mark.parametrize(
    ("fault", "error"), [("rate_limit", openai.RateLimitError), ("server_error", openai.InternalServerError)]
)
def test_faults_that_are_errors(serve, fault, error):
    url = serve("--fault", f"{fault}=1")
    with pytest.raises(error) as error_info:
        ask(url, DEMONSTRATIONS)
    assert fault != "rate_limit" or error_info.value.response.headers["retry-after"]


def test_a_hang_outlasts_the_timeout_of_the_client(serve):
    url = serve("--fault", "hang=1")
    with pytest.raises(openai.APITimeoutError):
        ask(url, DEMONSTRATIONS, timeout=1)


@pytest.mark.parametrize("fault", ["cut_off", "invalid_json", "refusal", "empty"])
def test_faults_that_are_replies(serve, fault):
    choice = ask(serve("--fault", f"{fault}=1"), DEMONSTRATIONS).choices[0]
    if fault == "refusal":
        assert choice.message.refusal and not choice.message.content
    elif fault == "empty":
        assert choice.message.content == ""
    else:
        assert choice.finish_reason == ("length" if fault == "cut_off" else "stop")
        with pytest.raises(ValueError):
            json.loads(choice.message.content)


def test_a_retry_of_a_fault_can_succeed_and_the_teacher_counts_its_calls(serve):
    url = serve("--fault", "server_error=0.5", "--seed", "4")
    outcomes = []
    for _ in range(12):
        try:
            outcomes.append(bool(ask(url, DEMONSTRATIONS, seed=2)))
        except openai.InternalServerError:
            outcomes.append(False)
    assert set(outcomes) == {True, False}
    stats = httpx.get(url.removesuffix("/v1") + "/stats", timeout=HTTP_SECONDS).json()
    assert stats["requests"] == 12
    assert stats["request_hashes"]["billed_more_than_once"] == 1
    assert stats["tokens"]["total"] > 0


def test_the_command_refuses_an_unknown_fault():
    import subprocess
    import sys

    argv = [sys.executable, "-m", "app.simulator", "--port", "0", "--fault", "gremlins=1"]
    process = subprocess.run(argv, capture_output=True, text=True, timeout=PROCESS_SECONDS)
    assert process.returncode == 2
    assert "gremlins" in process.stderr
