"""The scoring worker. It is a separate process, so that a short scoring does not wait for a long training."""

import threading

from app.jobs import queue, runner
from app.likelihood_scores.scoring import KIND
from workers.process import SHUTDOWN, map_queries_to_work, serve

# The poller has its own thread. Without this lock it could start a second scoring while Redis is unavailable.
_one_at_a_time = threading.Lock()


@queue.app.task(name=queue.SCORING)
def score(id: str) -> None:
    """Score the rows of one job, after a running one has ended."""
    with _one_at_a_time:
        runner.work(KIND, id, shutdown=SHUTDOWN)


serve(queue.SCORINGS, map_queries_to_work([KIND], score))
