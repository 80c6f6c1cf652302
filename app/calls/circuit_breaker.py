"""The circuit breaker: while a teacher fails most calls no call is made; after the open interval one probe is made.

Its state is in Redis, where all workers share it. circuit_breaker.lua decides, as part of the script of the rate
limiter: whether a call may be made is one decision under the breaker and all limits at once. (Nygard 2007, "Release
It!", chapter 5.)
"""

from dataclasses import dataclass
from pathlib import Path

SCRIPT = (Path(__file__).parent / "circuit_breaker.lua").read_text("utf-8")


class CircuitOpen(Exception):
    """The circuit breaker is open: the teacher fails most calls.

    Args:
        seconds: The seconds until it may be called again.
        away_for: The seconds for which the breaker has been open.
    """

    def __init__(self, seconds: float, away_for: float):
        super().__init__(f"The teacher fails most calls, so none is made now; the next one is made in {seconds:.0f} s.")
        self.seconds, self.away_for = seconds, away_for


@dataclass(frozen=True)
class BreakerSettings:
    """When the circuit breaker opens, and for how long.

    Attributes:
        newest: The number of newest calls of which half must have failed.
        within_ms: The time within which all of them must have ended, in milliseconds.
        first_open_ms: The first open interval. Each probe that fails doubles it.
        longest_open_ms: The longest open interval.
    """

    # A few failures in a row are chance. Calls older than half a minute say nothing about the teacher now.
    newest: int = 20
    within_ms: int = 30_000
    # The longest interval is also the longest time for which calls wait although the teacher is back.
    first_open_ms: int = 15_000
    longest_open_ms: int = 300_000
