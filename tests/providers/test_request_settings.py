"""How the requests to a teacher are written: fields that are added, renamed, folded and dropped, and streams."""

import json
from dataclasses import replace

import pytest

from app.providers.request_settings import RequestSettings, fold_system, with_sampling
from app.providers.teacher import Served
from app.synth.teacher_errors import TeacherRefused
from tests.fakes import ScriptedServer, chat, error
from tests.providers.conformance import PROMPT, SCHEMA, make_endpoint, use
from tests.waiting import HTTP_SECONDS

SETTINGS = RequestSettings(
    extra_body={"top_k": 20, "seed": 99},
    extra_headers={"api-key": "canary-7788"},
    query={"api-version": "2024-10-21"},
    sampling={"temperature": 1.0, "frequency_penalty": 0.5},
    stop=("###",),
    max_tokens_name="max_completion_tokens",
    system_turn="folded",
    drops=("top_p",),
)


def call(content: bytes, status: int = 200, **settings) -> tuple[Served, ScriptedServer]:
    answer = status, {"content-type": settings.pop("content_type", "application/json")}, content
    prompt = replace(PROMPT, schema=SCHEMA, presence_penalty=2.0)
    with ScriptedServer(lambda body: answer) as server:
        endpoint = make_endpoint(base_url=server.url, timeout_seconds=HTTP_SECONDS, **settings)
        return use(endpoint, lambda teacher: teacher.complete(prompt)), server


def test_a_request_follows_the_settings_of_its_teacher():
    _, server = call(chat("x"), settings=SETTINGS)
    (body,) = server.bodies
    assert (body["temperature"], body["max_completion_tokens"], body["stop"]) == (1.0, 50, ["###"])
    assert (body["presence_penalty"], body["frequency_penalty"]) == (2.0, 0.5)
    assert (body["top_k"], body["seed"]) == (20, 99)
    assert not {"max_tokens", "top_p", "stream"} & set(body)
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][0]["content"].startswith("s\n\n") and body["messages"][0]["content"].endswith("earlier")
    assert server.paths == ["/v1/chat/completions?api-version=2024-10-21"]
    assert server.headers[0]["api-key"] == "canary-7788"


def test_a_request_without_settings_is_as_before():
    _, server = call(chat("x"))
    assert set(server.bodies[0]) == {
        *("model", "messages", "temperature", "max_tokens", "top_p", "seed", "presence_penalty", "response_format")
    }


def test_the_settings_of_a_claude():
    answer = {"content": [{"type": "text", "text": "x"}], "usage": {"input_tokens": 1, "output_tokens": 1}}
    settings = replace(SETTINGS, drops=("temperature",))
    _, server = call(json.dumps(answer).encode(), protocol="anthropic", model="claude-3-5-sonnet", settings=settings)
    (body,) = server.bodies
    assert "system" not in body and body["messages"][0]["content"].startswith("s\n\n")
    assert (body["stop_sequences"], body["top_k"], body["top_p"]) == (["###"], 20, 0.9)
    assert "temperature" not in body and server.headers[0]["api-key"] == "canary-7788"


def test_the_values_of_headers_are_masked():
    with pytest.raises(TeacherRefused) as error_info:
        call(error("x", "the header api-key canary-7788 is wrong"), 400, settings=SETTINGS)
    message = make_endpoint(settings=SETTINGS).mask(str(error_info.value))
    assert "canary" not in message and "***" in message


def events(*chunks: dict) -> bytes:
    lines = [f"data: {json.dumps(chunk, ensure_ascii=False)}\r\n\r\n" for chunk in chunks]
    return "".join([": ping\n\n", *lines, "data: [DONE]\n\n"]).encode()


def delta(finish_reason: str | None = None, **fields) -> dict:
    return {"model": "streamer", "choices": [{"index": 0, "delta": fields, "finish_reason": finish_reason}]}


USAGE_CHUNK = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}


@pytest.mark.parametrize("streams", [True, False])
def test_a_stream_is_one_reply_also_where_none_was_requested(streams):
    chunks = [delta(role="assistant", content=""), delta(reasoning_content="Let me"), delta(content="안녕\u2028")]
    content = events(*chunks, delta(content=" b"), delta("stop"), USAGE_CHUNK)
    served, server = call(content, content_type="text/event-stream", settings=RequestSettings(streams=streams))
    reply = served.reply
    assert (reply.text, reply.thought, reply.finish_reason) == ("안녕\u2028 b", "Let me", "stop")
    assert (reply.usage.prompt, reply.usage.completion, served.usage_estimated) == (7, 3, False)
    assert served.model == "streamer"
    assert server.bodies[0].get("stream", False) is streams
    assert server.bodies[0].get("stream_options") == ({"include_usage": True} if streams else None)


def test_a_stream_without_an_end_was_cut_and_its_usage_is_estimated():
    served, _ = call(events(delta(content="half")), content_type="text/event-stream")
    assert (served.reply.text, served.reply.finish_reason, served.usage_estimated) == ("half", "length", True)


def test_the_arguments_of_a_tool_call_come_in_pieces():
    pieces = [delta(tool_calls=[{"index": 0, "function": {"arguments": text}}]) for text in ('{"a"', ': "b"}')]
    served, _ = call(events(*pieces, delta("tool_calls")), content_type="text/event-stream")
    assert served.reply.text == '{"a": "b"}'


def test_an_error_inside_a_stream_is_an_error():
    content = events({"error": {"code": 401, "message": "no such key"}})
    with pytest.raises(TeacherRefused, match="no such key") as error_info:
        call(content, content_type="text/event-stream")
    assert error_info.value.stop_reason == "credentials_refused"


def test_sampling_settings_replace_those_of_the_prompt():
    prompt = with_sampling(PROMPT, RequestSettings(sampling={"temperature": 0.1, "presence_penalty": 1.0}))
    assert (prompt.temperature, prompt.top_p, prompt.presence_penalty) == (0.1, 0.9, 1.0)


def test_an_empty_system_text_is_left_out_when_it_is_folded():
    assert fold_system([{"role": "system", "content": ""}, {"role": "user", "content": "u"}]) == [
        {"role": "user", "content": "u"}
    ]
