"""The circuit breaker: a teacher that fails most calls is left alone for a while, then one call finds out more.

Its state lies in Redis with the rest of what all workers know of a teacher. circuit_breaker.lua decides, inside the
script of the rate limiter: who may call is one decision under the breaker and all limits at once.
"""

from dataclasses import dataclass
from pathlib import Path

SCRIPT = (Path(__file__).parent / "circuit_breaker.lua").read_text("utf-8")


class TeacherAway(Exception):
    """The circuit breaker is open: the teacher fails most calls. `seconds`: until it may be called again."""

    def __init__(self, seconds: float, away_for: float):
        super().__init__(f"the teacher fails most calls; it is called again in {seconds:.0f} s")
        self.seconds, self.away_for = seconds, away_for


@dataclass(frozen=True)
class BreakerSettings:
    """Opens when half of the `newest` calls have failed within `within_ms`, and at least so many were made.

    It stays open for `first_open_ms`, then twice as long after each probe that failed, up to `longest_open_ms`.
    """

    newest: int = 20
    within_ms: int = 30_000
    first_open_ms: int = 15_000
    longest_open_ms: int = 300_000
