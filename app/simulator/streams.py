"""A completion as a stream of server-sent events."""

from app.simulator.protocol import json_bytes

MEDIA_TYPE = "text/event-stream"
_CHUNK_CHARACTERS = 40


def write_events(body: dict) -> bytes:
    """Return the events of a completion with one choice: its text in pieces, and the usage in the last chunk."""
    (choice,) = body["choices"]
    shared = {name: body[name] for name in ("id", "model", "system_fingerprint")} | {"object": "chat.completion.chunk"}
    message = dict(choice["message"])
    text = message.pop("content", None)
    pieces = [text] if not isinstance(text, str) else _split(text)
    deltas = [message | {"content": ""}, *({"content": piece} for piece in pieces)]
    chunks = [shared | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    last = {"index": 0, "delta": {}, "finish_reason": choice.get("finish_reason")}
    chunks += [shared | {"choices": [last]}, shared | {"choices": [], "usage": body.get("usage")}]
    events = b"".join(b"data: " + json_bytes(chunk) + b"\n\n" for chunk in chunks)
    return events + b"data: [DONE]\n\n"


def _split(text: str) -> list[str]:
    return [text[start : start + _CHUNK_CHARACTERS] for start in range(0, len(text), _CHUNK_CHARACTERS)]
