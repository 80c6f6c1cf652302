"""What follows from the end of an attempt: the job has ended, or another attempt is made. Pure."""

from dataclasses import dataclass
from enum import Enum
from typing import Literal

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
    """The state that the job takes. `delay_seconds`, `attempt_counts`: of a job that is queued again."""

    status: Literal["queued", "failed", "cancelled"]
    delay_seconds: float = 0.0
    attempt_counts: bool = True


def decide(outcome: Outcome, attempt: int, max_attempts: int) -> Decision:
    """`attempt` is the number of the attempt that has ended, from 1; after `max_attempts` there is no other one."""
    if outcome is Outcome.CANCELLED:
        return Decision("cancelled")
    if outcome is Outcome.WORKER_STOPPING:
        return Decision("queued", attempt_counts=False)
    if outcome is Outcome.FINAL_FAULT or attempt >= max_attempts:
        return Decision("failed")
    if outcome is Outcome.WORKER_LOST:
        return Decision("queued")
    return Decision("queued", min(FIRST_DELAY_SECONDS * 2 ** (attempt - 1), MAX_DELAY_SECONDS))
