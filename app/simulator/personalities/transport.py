"""Responses that carry no plain completion, and servers that take their time."""

from app.simulator import streams
from app.simulator.personalities.personality import Bill, Personality, RawBody
from app.simulator.protocol import json_bytes

_HTML = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in to go on.</body></html>"


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
        encode=lambda body: RawBody(json_bytes(body)[: len(json_bytes(body)) * 3 // 4]),
    ),
    Personality("wrong_content_type", "hand-made servers", encode=lambda body: RawBody(json_bytes(body), "text/plain")),
    Personality(
        "streams_unasked",
        "proxies that always stream",
        encode=lambda body: RawBody(streams.write_events(body), streams.MEDIA_TYPE),
    ),
    Personality(
        "error_in_choice", "OpenRouter, when the provider breaks off", shape_body=_break_in_choice, by_attempt=True
    ),
    Personality("slow", "busy servers", seconds=1.5),
    Personality("stalls", "servers that accept a call and forget it", seconds=3600.0, by_attempt=True),
)
