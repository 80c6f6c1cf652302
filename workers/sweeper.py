"""The sweeper: rings again for work that nobody holds, and settles what can end. It needs no Redis.

Any number may run; the one that holds the advisory lock leads. `python -m workers.sweeper`.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import config
from app.access import store as access
from app.datasets import imports
from app.db import engine, transaction
from app.finetunes import service as finetunes
from app.jobs import queue
from app.reviews import service as reviews
from app.runs import service as runs
from app.runs import store as run_store
from app.scorings import service as scorings
from app.snapshots import service as snapshots

log = logging.getLogger("seedbed.sweeper")

LEADER_LOCK = 7_301_923
RING_AGAIN_SECONDS = 10.0
# The bell that rang with the commit is mostly on its way still when the row is first seen.
FIRST_RING_SECONDS = 4.0

# Whose work may wait for a bell, and which bell.
WAITING: dict[str, Callable[[Session], list[str]]] = {
    queue.RUN: runs.waiting,
    queue.REMOTE: run_store.runs_with_remote_work,
    queue.IMPORT: imports.waiting,
    queue.REVIEW: reviews.waiting,
    queue.SNAPSHOT: snapshots.unfinished,
    queue.FINETUNE: finetunes.unfinished,
    queue.SCORING: scorings.unfinished,
}


class Sweeper:
    """One leader's memory: when it last rang for what."""

    def __init__(self):
        self._rung: dict[str, float] = {}

    def sweep(self) -> None:
        now = time.monotonic()
        with transaction() as session:
            finetunes.settle(session)
            scorings.settle(session)
            runs.resume_due(session)
            access.forget_old_answers(session)
        for task, waiting in WAITING.items():
            with transaction() as session:
                ids = waiting(session)
            for id in ids:
                self._rung.setdefault(id, now - RING_AGAIN_SECONDS + FIRST_RING_SECONDS)
                if now - self._rung[id] >= RING_AGAIN_SECONDS:
                    self._rung[id] = now
                    queue.ring(task, id)
        self._rung = {id: at for id, at in self._rung.items() if now - at < 10 * RING_AGAIN_SECONDS}


def lead(stop: threading.Event) -> None:
    """Sweep until asked to stop, each time only if no other sweeper is at it."""
    with engine().connect() as connection:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        sweeper = Sweeper()
        while not stop.is_set():
            if connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LEADER_LOCK}):
                sweeper.sweep()
                connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": LEADER_LOCK})
            stop.wait(config.settings().sweep_seconds)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    while not stop.is_set():
        try:
            lead(stop)
        except SQLAlchemyError as error:
            log.warning("the database is away: %s", error)
            stop.wait(config.settings().sweep_seconds)


if __name__ == "__main__":
    main()
