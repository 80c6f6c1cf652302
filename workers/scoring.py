"""The scoring worker: a process of its own, so that a short scoring does not wait behind a long training."""

import threading

from app.jobs import queue, runner
from app.likelihood_scores.scoring import KIND
from workers.process import SHUTDOWN, serve, waiting

# The poller works in a thread of its own: with Redis away, a second scoring must not begin beside the first.
_one_at_a_time = threading.Lock()


@queue.app.task(name=queue.SCORING)
def score(id: str) -> None:
    with _one_at_a_time:
        runner.work(KIND, id, shutdown=SHUTDOWN)


serve(queue.SCORINGS, waiting([KIND], score))
