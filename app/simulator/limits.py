"""Token buckets, and the headers in which the OpenAI API speaks of them."""

import math
import time
from collections.abc import Callable


class Bucket:
    """`per_minute` units refill evenly; 0 is no limit. A full bucket holds one minute's worth."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic):
        self.per_minute, self._clock = per_minute, clock
        self._level, self._at = float(per_minute), clock()

    def wait(self, units: int = 1) -> float:
        """Seconds until `units` are there; 0 when they are now. More than a minute's worth counts as one minute's."""
        if not self.per_minute:
            return 0.0
        self._refill()
        return max(0.0, min(units, self.per_minute) - self._level) * 60 / self.per_minute

    def take(self, units: int = 1) -> None:
        self._refill()
        self._level -= units

    def remaining(self) -> int:
        self._refill()
        return max(0, int(self._level))

    def until_full(self) -> float:
        self._refill()
        return (self.per_minute - self._level) * 60 / self.per_minute if self.per_minute else 0.0

    def _refill(self) -> None:
        now = self._clock()
        self._level = min(float(self.per_minute), self._level + (now - self._at) * self.per_minute / 60)
        self._at = now


# What is said where nothing limits: clients read the headers whether or not a limit is set.
NOMINAL = {"requests": 60_000, "tokens": 60_000_000}


def headers(requests: Bucket, tokens: Bucket) -> dict[str, str]:
    found = {}
    for name, bucket in (("requests", requests), ("tokens", tokens)):
        free = not bucket.per_minute
        found[f"x-ratelimit-limit-{name}"] = str(NOMINAL[name] if free else bucket.per_minute)
        found[f"x-ratelimit-remaining-{name}"] = str(NOMINAL[name] if free else bucket.remaining())
        found[f"x-ratelimit-reset-{name}"] = _duration(bucket.until_full())
    return found


def retry_headers(seconds: float) -> dict[str, str]:
    """Retry-After holds whole seconds; the exact wait is in the header that the OpenAI API adds."""
    return {"retry-after": str(max(1, math.ceil(seconds))), "retry-after-ms": str(math.ceil(seconds * 1000))}


def _duration(seconds: float) -> str:
    return f"{seconds:.3f}s" if seconds >= 1 else f"{math.ceil(seconds * 1000)}ms"
