"""Token buckets, and the headers in which the OpenAI API reports rate limits."""

import math
import time
from collections.abc import Callable


class TokenBucket:
    """A token bucket that refills by `per_minute` units a minute, evenly; 0 sets no limit.

    A full bucket holds the units of one minute.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic):
        self.per_minute, self._clock = per_minute, clock
        self._level, self._at = float(per_minute), clock()

    def wait(self, units: int = 1) -> float:
        """Return the seconds until `units` are available, 0 if they are now.

        More units than a bucket holds count as a full bucket, or the wait would never end.
        """
        if not self.per_minute:
            return 0.0
        self._refill()
        return max(0.0, min(units, self.per_minute) - self._level) * 60 / self.per_minute

    def take(self, units: int = 1) -> None:
        """Take units. The level may fall below 0: the tokens of a reply are only known after it was let through."""
        self._refill()
        self._level -= units

    def remaining(self) -> int:
        """Return the whole units that are available."""
        self._refill()
        return max(0, int(self._level))

    def until_full(self) -> float:
        """Return the seconds until the bucket is full."""
        self._refill()
        return (self.per_minute - self._level) * 60 / self.per_minute if self.per_minute else 0.0

    def _refill(self) -> None:
        now = self._clock()
        self._level = min(float(self.per_minute), self._level + (now - self._at) * self.per_minute / 60)
        self._at = now


# The limits in the headers of a server without limits: clients read the headers whether or not a limit is set.
NOMINAL_LIMITS = {"requests": 60_000, "tokens": 60_000_000}


def rate_limit_headers(requests: TokenBucket, tokens: TokenBucket) -> dict[str, str]:
    """Return the x-ratelimit headers of a response: limit, remaining units, and time until the bucket is full."""
    headers_by_name = {}
    for name, bucket in (("requests", requests), ("tokens", tokens)):
        is_unlimited = not bucket.per_minute
        headers_by_name[f"x-ratelimit-limit-{name}"] = str(NOMINAL_LIMITS[name] if is_unlimited else bucket.per_minute)
        headers_by_name[f"x-ratelimit-remaining-{name}"] = str(
            NOMINAL_LIMITS[name] if is_unlimited else bucket.remaining()
        )
        headers_by_name[f"x-ratelimit-reset-{name}"] = _duration(bucket.until_full())
    return headers_by_name


def retry_headers(seconds: float) -> dict[str, str]:
    """Return the headers of a 429: Retry-After in whole seconds, and the exact wait in the header of the OpenAI API."""
    return {"retry-after": str(max(1, math.ceil(seconds))), "retry-after-ms": str(math.ceil(seconds * 1000))}


def _duration(seconds: float) -> str:
    return f"{seconds:.3f}s" if seconds >= 1 else f"{math.ceil(seconds * 1000)}ms"
