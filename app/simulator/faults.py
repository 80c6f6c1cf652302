"""Which request goes wrong, and how. A pure plan: the n-th sight of a request always fares the same."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterable, Mapping
from statistics import NormalDist

from starlette.responses import Response, StreamingResponse

from app.simulator import chance

KINDS = (
    *("rate_limit", "server_error", "hang", "cut_off", "invalid_json", "refusal", "empty"),
    *("drip", "reset", "wrong_schema", "huge", "not_utf8", "wrong_usage", "other_model"),
)
HUGE_CHARACTERS = 9 * 2**20

_REFUSALS = {"en": "I'm sorry, but I can't help with that request.", "ko": "죄송하지만 그 요청은 도와드릴 수 없습니다."}


class FaultPlan:
    """`rates`: the share of requests with each fault. A retry of the same request draws again."""

    def __init__(self, seed: int = 0, rates: Mapping[str, float] | None = None):
        self.seed, self.rates = seed, dict(rates or {})
        for kind, rate in self.rates.items():
            if kind not in KINDS:
                raise ValueError(f"unknown fault {kind!r}; known are {', '.join(KINDS)}")
            if not 0 <= rate <= 1:
                raise ValueError(f"the rate of {kind} is {rate:g}, not between 0 and 1")
        if sum(self.rates.values()) > 1 + 1e-9:
            raise ValueError("the rates of all faults add up to more than 1")

    def draw(self, request: str, sight: int) -> str | None:
        """The fault of a request's `sight`-th arrival (from 0), or None."""
        place = chance.share("fault", self.seed, request, sight)
        for kind in KINDS:
            place -= self.rates.get(kind, 0.0)
            if place < 0:
                return kind
        return None


def parse_faults(options: Iterable[str]) -> dict[str, float]:
    """`["hang=0.01"]` as `{"hang": 0.01}`."""
    rates = {}
    for option in options:
        kind, sign, rate = option.partition("=")
        try:
            rates[kind.strip()] = float(rate)
        except ValueError:
            sign = ""
        if not sign or not math.isfinite(rates[kind.strip()]):
            raise ValueError(f"{option!r} is not of the form kind=rate, such as hang=0.01")
    return rates


def delay(seed: int, request: str, sight: int, median: float, sigma: float) -> float:
    """Seconds until an answer: log-normal about the median, or the median itself without a tail."""
    if not median or not sigma:
        return median
    place = chance.share("delay", seed, request, sight)
    return median * math.exp(sigma * NormalDist().inv_cdf(min(max(place, 1e-9), 1 - 1e-9)))


def refusal(language: str) -> str:
    return _REFUSALS[language]


def cut(content: str) -> str:
    return content[: max(1, len(content) * 3 // 5)]


def break_json(content: str) -> str:
    """No decoder reads the result, and a reader that salvages still finds the beginning."""
    broken = content.rstrip().rstrip("]}") if content.lstrip().startswith("{") else '{"output": ' + json.dumps(content)
    return broken.rstrip("}") + ", ..."


def spoiled(answer: Response, fault: str) -> Response:
    """The answer on a line that drips, breaks off in the middle, or garbles it."""
    body, headers = answer.body, dict(answer.headers)
    if fault == "not_utf8":
        garbled = body.replace(b'"content":', b'"content\xff\xfe":', 1)
        return Response(garbled, media_type="application/json")
    return StreamingResponse(_spoilt(body, fault), headers=headers, media_type="application/json")


async def _spoilt(body: bytes, fault: str) -> AsyncIterator[bytes]:
    if fault == "reset":
        yield body[: len(body) // 2]
        # Less than the announced length: the server closes the connection.
        raise ConnectionResetError("a planned fault")
    for place in range(len(body)):
        yield body[place : place + 1]
        await asyncio.sleep(0.25)
