"""How many batches of a run are held at once, so that the teacher always has as many calls as it allows."""

import math
import time
from collections.abc import Mapping

from app.calls.rate_limiter import RateLimiter
from app.providers.teacher import Teacher
from app.runs import sampling
from app.runs.worker import planning
from app.synth.methods.registry import METHODS
from app.tables.runs import Run

# Without calls a batch waits only for the database, and more batches would wait for the admission lock.
BATCHES_WITHOUT_TEACHER = 4
# Calls that batches could have under way, for each call that the teacher allows at once. Batches really have a third
# of them, and fewer when many candidates are rejected early: while no call waits for a permit, the number grows.
CALLS_PER_PERMIT, CALLS_STEP, MAX_CALLS_PER_PERMIT = 5, 0.5, 10
# The newest batches need about this time until their calls wait for permits, so the limit rises once in it.
RAISE_SECONDS = 1.0


class BatchLimit:
    """The limit of one run's batches, which rises while no call waits for a permit (docs/adr/0015).

    Args:
        run: the run.
        teachers: the open teachers by their roles.
        limiters: the rate limiters by the same roles.
        calls_per_permit: the calls for each permit by run id. The limit writes to it, so that the next slice of the
            run starts with the number that this one has reached.
    """

    def __init__(
        self,
        run: Run,
        teachers: Mapping[str, Teacher],
        limiters: Mapping[str, RateLimiter],
        calls_per_permit: dict[str, float],
    ):
        self._run, self._teachers, self._limiters = run, teachers, limiters
        self._calls_per_permit = calls_per_permit
        self._raised_at = time.monotonic()

    def value(self) -> int:
        """Return how many batches of the run all workers together may hold.

        A batch has one call under way at its beginning, and at its end waits for its slowest chain of calls.
        """
        if self._run.mode == "batch":
            # Batches only register their calls, so all that the run needs are processed at once.
            return planning.MAX_BATCHES
        teacher = self._teachers.get("teacher") or self._teachers.get("judge")
        if teacher is None:
            return BATCHES_WITHOUT_TEACHER
        per_batch = METHODS[self._run.method].batch_size(sampling.parse_options(self._run))
        calls_per_permit = self._calls_per_permit.get(self._run.id, CALLS_PER_PERMIT)
        return max(2, math.ceil(teacher.endpoint.in_flight * calls_per_permit / per_batch))

    def raise_if_no_call_waits(self) -> None:
        """Raise the limit. Call it when as many batches are in progress as the limit allows."""
        if any(limiter.waiting for limiter in self._limiters.values()):
            return
        if time.monotonic() - self._raised_at > RAISE_SECONDS:
            self._raised_at = time.monotonic()
            current = self._calls_per_permit.get(self._run.id, CALLS_PER_PERMIT)
            self._calls_per_permit[self._run.id] = min(MAX_CALLS_PER_PERMIT, current + CALLS_STEP)
