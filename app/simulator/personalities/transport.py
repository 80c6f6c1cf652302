"""Responses that carry no plain completion, and servers that take their time."""

import json

from app.simulator.personalities.personality import Bill, Personality, RawBody

_CHUNK_CHARACTERS = 40
_HTML = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in to go on.</body></html>"


def _json_bytes(body: dict) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


def _stream(body: dict) -> RawBody:
    """Return the completion as a stream of server-sent events, the usage in the last one."""
    choice, shared = body["choices"][0], {"id": body["id"], "object": "chat.completion.chunk", "model": body["model"]}
    shared["system_fingerprint"] = body["system_fingerprint"]
    text = choice["message"]["content"]
    pieces = [text[start : start + _CHUNK_CHARACTERS] for start in range(0, len(text), _CHUNK_CHARACTERS)]
    deltas: list[dict] = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in pieces)]
    chunks = [shared | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append(shared | {"choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
    chunks.append(shared | {"choices": [], "usage": body["usage"]})
    lines = b"".join(b"data: " + _json_bytes(chunk) + b"\n\n" for chunk in chunks)
    return RawBody(lines + b"data: [DONE]\n\n", "text/event-stream")


def _break_in_choice(body: dict, bill: Bill) -> None:
    for choice in body["choices"]:
        choice["error"] = {"code": 502, "message": "Upstream provider disconnected"}
        choice["finish_reason"] = "error"


PERSONALITIES = (
    Personality("html_with_200", "login pages of gateways", encode=lambda body: RawBody(_HTML, "text/html")),
    Personality("empty_body", "gateways that lost the server behind them", encode=lambda body: RawBody(b"")),
    Personality(
        "truncated_body",
        "gateways with a limit on the size",
        encode=lambda body: RawBody(_json_bytes(body)[: len(_json_bytes(body)) * 3 // 4]),
    ),
    Personality(
        "wrong_content_type", "hand-made servers", encode=lambda body: RawBody(_json_bytes(body), "text/plain")
    ),
    Personality("streams_unasked", "proxies that always stream", encode=_stream),
    Personality(
        "error_in_choice", "OpenRouter, when the provider breaks off", shape_body=_break_in_choice, by_attempt=True
    ),
    Personality("slow", "busy servers", seconds=1.5),
    Personality("stalls", "servers that accept a call and forget it", seconds=3600.0, by_attempt=True),
)
