"""Decides which request fails and how. The n-th attempt of a request always gets the same fault."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from statistics import NormalDist

from starlette.responses import Response, StreamingResponse

from app.simulator import seeded_random

FAULT_TYPES = (
    *("rate_limit", "server_error", "hang", "cut_off", "invalid_json", "refusal", "empty"),
    *("drip", "reset", "wrong_schema", "huge", "not_utf8", "wrong_usage", "other_model"),
)
# More than the 8 MiB of a reply that Seedbed reads.
HUGE_CHARACTERS = 9 * 2**20

_REFUSALS = {"en": "I'm sorry, but I can't help with that request.", "ko": "죄송하지만 그 요청은 도와드릴 수 없습니다."}


class FaultPlan:
    """The share of requests that get each fault. A retry of a request is a new attempt with a fault of its own.

    Raises:
        ValueError: A fault is unknown, or a rate is not between 0 and 1, or the rates add up to more than 1.
    """

    def __init__(self, seed: int = 0, rates: Mapping[str, float] | None = None):
        self.seed, self.rates = seed, dict(rates or {})
        for fault_type, rate in self.rates.items():
            if fault_type not in FAULT_TYPES:
                raise ValueError(f"there is no fault {fault_type!r}; the faults are {', '.join(FAULT_TYPES)}")
            if not 0 <= rate <= 1:
                raise ValueError(f"the rate of {fault_type} is {rate:g}, not between 0 and 1")
        if sum(self.rates.values()) > 1 + 1e-9:
            raise ValueError("the rates of all faults add up to more than 1")

    def choose_fault(self, request_hash: str, attempt: int) -> str | None:
        """Return the fault of an attempt (counted from 0) of a request, or None."""
        # One point in [0, 1) selects at most one fault: each fault owns a stretch as long as its rate.
        point = seeded_random.draw_uniform("fault", self.seed, request_hash, attempt)
        for fault_type in FAULT_TYPES:
            point -= self.rates.get(fault_type, 0.0)
            if point < 0:
                return fault_type
        return None


def parse_faults(options: Iterable[str]) -> dict[str, float]:
    """Return the rates of options: `["hang=0.01"]` gives `{"hang": 0.01}`.

    Raises:
        ValueError: An option does not have the form kind=rate.
    """
    rates = {}
    for option in options:
        fault_type, sign, rate = option.partition("=")
        try:
            rates[fault_type.strip()] = float(rate)
        except ValueError:
            sign = ""
        if not sign or not math.isfinite(rates[fault_type.strip()]):
            raise ValueError(f"{option!r} is not of the form kind=rate, such as hang=0.01")
    return rates


def response_delay(seed: int, request_hash: str, attempt: int, median: float, sigma: float) -> float:
    """Return the seconds until the response: log-normal around the median, or the median itself if `sigma` is 0."""
    if not median or not sigma:
        return median
    point = seeded_random.draw_uniform("delay", seed, request_hash, attempt)
    # The bounds keep inv_cdf away from 0 and 1, where it is infinite.
    return median * math.exp(sigma * NormalDist().inv_cdf(min(max(point, 1e-9), 1 - 1e-9)))


def refusal_text(language: str) -> str:
    """Return a refusal in a language."""
    return _REFUSALS[language]


def truncate(content: str) -> str:
    """Return the first three fifths of a reply."""
    return content[: max(1, len(content) * 3 // 5)]


def break_json(content: str) -> str:
    """Return JSON that no decoder accepts, but whose beginning a tolerant reader can recover."""
    broken = content.rstrip().rstrip("]}") if content.lstrip().startswith("{") else '{"output": ' + json.dumps(content)
    return broken.rstrip("}") + ", ..."


# By fault, the content that takes the place of the reply.
REPLACED_CONTENT: Mapping[str, Callable[[str], str]] = {
    "wrong_schema": lambda content: '{"unexpected": [1, 2, 3]}',
    "huge": lambda content: "x" * HUGE_CHARACTERS,
    "invalid_json": break_json,
}


def spoil_response(answer: Response, fault: str) -> Response:
    """Return the response with slow bytes, a lost connection, or bytes that are not UTF-8."""
    body, headers = answer.body, dict(answer.headers)
    if fault == "not_utf8":
        garbled = body.replace(b'"content":', b'"content\xff\xfe":', 1)
        return Response(garbled, media_type="application/json")
    return StreamingResponse(_stream_spoiled_body(body, fault), headers=headers, media_type="application/json")


async def _stream_spoiled_body(body: bytes, fault: str) -> AsyncIterator[bytes]:
    if fault == "reset":
        yield body[: len(body) // 2]
        # The body is shorter than its content-length says, so uvicorn closes the connection.
        raise ConnectionResetError("a planned fault")
    for index in range(len(body)):
        yield body[index : index + 1]
        # At four bytes a second a whole reply outlasts the timeout of a call, though the connection stays busy.
        await asyncio.sleep(0.25)
