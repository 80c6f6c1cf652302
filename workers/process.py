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

# Set at SIGTERM. The process then releases its jobs, so that other workers can claim them at once.
SHUTDOWN = threading.Event()

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
mask_logs(config.secrets())


def serve(queue: str, kinds: dict[ListWaiting, Callable[[str], None]]) -> None:
    """Make this process a worker of a queue.

    Args:
        queue: The name of the queue.
        kinds: The jobs to poll for while Redis is unavailable: a function that lists their ids, and the one that works
            on an id.
    """

    def begin(sender, **_) -> None:
        Presence([queue], sender.concurrency).start(SHUTDOWN)
        Poller(kinds, SHUTDOWN).start()

    # Not worker_ready: Celery is never ready without Redis, and then the poller is needed most.
    worker_init.connect(begin, weak=False)


def waiting(kinds: Iterable[JobKind], work: Callable[[str], None]) -> dict[ListWaiting, Callable[[str], None]]:
    """Return the argument of `serve` for types of jobs that the same function works on."""
    return {partial(runner.waiting, kind=kind): work for kind in kinds}


@worker_shutting_down.connect
def _stop(**_) -> None:
    # Jobs look at this event at each step; Celery's own signal would only stop new tasks.
    SHUTDOWN.set()
