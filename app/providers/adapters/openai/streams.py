"""A reply that came as a stream of server-sent events, put together to one completion."""

import json
import re
from collections.abc import Iterator

_PREFIX = "data:"
_TEXT_FIELDS = ("content", "reasoning_content", "reasoning", "thinking", "refusal")
# Not str.splitlines, which also splits at characters that may stand in a text of JSON.
_LINE_END = re.compile(r"\r\n|\r|\n")


def completion_of_stream(answer: object) -> dict | None:
    """Return the completion that the chunks of a stream make up; None for an answer that is no stream.

    Args:
        answer: What the client returned: the whole text of the stream, or a completion.
    """
    if not isinstance(answer, str) or not answer.lstrip("\ufeff \r\n").startswith((_PREFIX, ":", "event:")):
        return None
    completion: dict = {}
    message: dict = {"role": "assistant", "content": ""}
    finish_reason = None
    has_choice = False
    for chunk in _chunks(answer):
        for name in ("model", "usage", "system_fingerprint", "error"):
            if chunk.get(name):
                completion[name] = chunk[name]
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            continue
        has_choice = True
        finish_reason = choice.get("finish_reason") or finish_reason
        _add_delta(message, choice.get("delta") or choice.get("message"))
    if has_choice:
        # A stream that ends without a finish reason was cut.
        completion["choices"] = [{"index": 0, "message": message, "finish_reason": finish_reason or "length"}]
    return completion


def _chunks(text: str) -> Iterator[dict]:
    for line in _LINE_END.split(text):
        data = line.removeprefix(_PREFIX).strip()
        if not line.startswith(_PREFIX) or data == "[DONE]":
            continue
        try:
            chunk = json.loads(data)
        except ValueError:
            continue
        if isinstance(chunk, dict):
            yield chunk


def _add_delta(message: dict, delta: object) -> None:
    if not isinstance(delta, dict):
        return
    for name in _TEXT_FIELDS:
        if isinstance(delta.get(name), str):
            message[name] = message.get(name, "") + delta[name]
    for call in delta.get("tool_calls") or ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            calls = message.setdefault("tool_calls", [{"function": {"arguments": ""}}])
            calls[0]["function"]["arguments"] += function["arguments"]
