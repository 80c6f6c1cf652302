"""Decides what follows from the end of an attempt: the job ends, or another attempt is made. Pure functions."""

from dataclasses import dataclass
from enum import Enum
from typing import Literal

# The delay doubles with each attempt: a fault of a moment costs little, and a longer one is given a minute to pass.
FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS = 2.0, 60.0


class Outcome(Enum):
    """How an attempt ended."""

    CANCELLED = "the job's cancel was requested"
    FAULT = "a fault that another attempt may not meet"
    FINAL_FAULT = "a fault that every attempt would meet"
    WORKER_LOST = "the lease ran out: the worker died, or hung"
    WORKER_STOPPING = "the worker was told to end, and gave the job back"


@dataclass(frozen=True)
class Decision:
    """The next status of the job.

    Attributes:
        status: The status.
        delay_seconds: For `queued`: the seconds until the next attempt may begin.
        attempt_counts: For `queued`: whether the attempt counts towards the limit of attempts.
    """

    status: Literal["queued", "failed", "cancelled"]
    delay_seconds: float = 0.0
    attempt_counts: bool = True


def decide(outcome: Outcome, attempt: int, max_attempts: int) -> Decision:
    """Decide what follows from an attempt.

    Args:
        outcome: How the attempt ended.
        attempt: The number of the attempt that has ended, from 1.
        max_attempts: The number of attempts after which a job fails.

    Returns:
        The next status of the job.
    """
    if outcome is Outcome.CANCELLED:
        return Decision("cancelled")
    # A restart of workers is no fault of the job: it must not use up its attempts.
    if outcome is Outcome.WORKER_STOPPING:
        return Decision("queued", attempt_counts=False)
    if outcome is Outcome.FINAL_FAULT or attempt >= max_attempts:
        return Decision("failed")
    # No delay: the lease has run out, so that the job has waited for longer than any delay already.
    if outcome is Outcome.WORKER_LOST:
        return Decision("queued")
    return Decision("queued", min(FIRST_DELAY_SECONDS * 2 ** (attempt - 1), MAX_DELAY_SECONDS))
