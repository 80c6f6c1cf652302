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
# So many batches are claimed that their proposals, with a call each, would be this many calls for each call that the
# teacher allows at once. At any moment only a third of the proposals has a call in flight, and fewer when many
# candidates are rejected early. So the number starts at the first value, and grows by the step up to the maximum while
# no call waits for a permit.
CALLS_PER_PERMIT, CALLS_STEP, MAX_CALLS_PER_PERMIT = 5, 0.5, 10
# The newest batches need about this time until their calls wait for permits, so the limit grows once in it at most.
INCREASE_SECONDS = 1.0


class BatchLimit:
    """The limit of one run's batches, which grows while no call waits for a permit (docs/adr/0015).

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
        self._increased_at = time.monotonic()

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

    def increase_if_no_call_waits(self) -> None:
        """Increase the limit, unless a call waits for a permit: then the teacher has as many calls as it allows.

        Call it when as many batches are in progress as the limit allows: with fewer, the limit is not the reason.
        """
        if any(limiter.waiting for limiter in self._limiters.values()):
            return
        if time.monotonic() - self._increased_at > INCREASE_SECONDS:
            self._increased_at = time.monotonic()
            current = self._calls_per_permit.get(self._run.id, CALLS_PER_PERMIT)
            self._calls_per_permit[self._run.id] = min(MAX_CALLS_PER_PERMIT, current + CALLS_STEP)
