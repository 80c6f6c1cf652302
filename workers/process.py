"""What every Celery worker process does beside its tasks: it says that it lives, polls, and ends politely."""

import logging
import threading
from collections.abc import Callable, Iterable
from functools import partial

from celery.signals import worker_init, worker_shutting_down

from app.jobs import runner
from app.jobs.kinds import JobKind
from app.jobs.poller import Poller, Waiting
from app.jobs.presence import Presence

# Set at SIGTERM: whatever this process works on is given back.
SHUTDOWN = threading.Event()

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")


def serve(queue: str, kinds: dict[Waiting, Callable[[str], None]]) -> None:
    """Make this process a worker of the queue. `kinds`: what to work on while Redis is away.

    From the start: with Redis away the worker is never ready.
    """

    def begin(sender, **_) -> None:
        Presence([queue], sender.concurrency).start(SHUTDOWN)
        Poller(kinds, SHUTDOWN).start()

    worker_init.connect(begin, weak=False)


def waiting(kinds: Iterable[JobKind], work: Callable[[str], None]) -> dict[Waiting, Callable[[str], None]]:
    """For `serve`: jobs of these kinds, all of which one task works on."""
    return {partial(runner.waiting, kind=kind): work for kind in kinds}


@worker_shutting_down.connect
def _stop(**_) -> None:
    SHUTDOWN.set()
