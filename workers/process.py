"""What every Celery worker does beside its tasks: it reports that it is alive, polls for jobs, and stops in order."""

import logging
import threading
from collections.abc import Callable, Iterable
from functools import partial

from celery.signals import worker_init, worker_shutting_down

from app import config
from app.jobs import runner
from app.jobs.kinds import JobKind
from app.jobs.poller import ListWaiting, Poller
from app.jobs.presence import Presence
from app.masking import mask_logs

# Set at SIGTERM. The running jobs check it at each step and release what they hold, so that other workers can claim it
# at once.
SHUTDOWN = threading.Event()

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
mask_logs(config.secrets())


def serve(queue: str, work_by_query: dict[ListWaiting, Callable[[str], None]]) -> None:
    """Make this process a worker of a queue. Call it once, at the end of the worker's module: Celery imports it.

    Args:
        queue: The name of the queue.
        work_by_query: The jobs to poll for while Redis is unavailable: a function that lists their ids, and the one
            that works on the job with an id.
    """

    def start_threads(sender, **_) -> None:
        Presence([queue], sender.concurrency).start(SHUTDOWN)
        Poller(work_by_query, SHUTDOWN).start()

    # Not worker_ready: Celery is never ready without Redis, and then the poller is needed most.
    worker_init.connect(start_threads, weak=False)


def map_queries_to_work(
    kinds: Iterable[JobKind], work: Callable[[str], None]
) -> dict[ListWaiting, Callable[[str], None]]:
    """Return the `work_by_query` of `serve` for types of jobs that the same function works on."""
    return {partial(runner.list_waiting, kind=kind): work for kind in kinds}


@worker_shutting_down.connect
def _stop(**_) -> None:
    # Celery by itself would only start no new tasks, and wait for the running ones.
    SHUTDOWN.set()
