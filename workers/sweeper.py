"""The sweeper: sends wake-ups for work that nobody holds, and ends what can end. It needs no Redis.

Any number may run; the one that holds the advisory lock leads. `python -m workers.sweeper`.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable
from functools import partial

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import config
from app.access import store as access
from app.datasets import import_job
from app.finetunes import training as finetunes
from app.jobs import presence, queue, runner, steering
from app.jobs.kinds import JobKind
from app.judgements import service as judgements
from app.judgements.kind import KIND as JUDGEMENT
from app.likelihood_scores import scoring as scorings
from app.maintenance.kinds import KINDS as REVIEW_KINDS
from app.persistence.db import engine, transaction
from app.runs import service as runs
from app.runs import store as run_store
from app.snapshots import writing as snapshots

log = logging.getLogger("seedbed.sweeper")

LEADER_LOCK = 7_301_923
LOOK_SECONDS = 0.5
NOTIFY_AGAIN_SECONDS = 10.0
# The wake-up that was sent with the commit is mostly on its way still when the row is first seen.
FIRST_NOTIFY_SECONDS = 4.0

KINDS: tuple[JobKind, ...] = (
    import_job.KIND,
    *REVIEW_KINDS.values(),
    JUDGEMENT,
    snapshots.KIND,
    finetunes.KIND,
    scorings.KIND,
)
# Whose work may wait for a wake-up, and which task works on it.
WAITING: tuple[tuple[str, Callable[[Session], list[str]]], ...] = (
    (queue.RUN, runs.waiting),
    (queue.REMOTE, run_store.runs_with_remote_work),
    *((kind.task, partial(runner.waiting, kind=kind)) for kind in KINDS),
)


class Sweeper:
    """One leader's memory: when it last sent a wake-up for what, and when it swept."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._notified: dict[str, float] = {}
        self._swept_at = float("-inf")

    def look(self) -> None:
        """What is cancelled ends soon: it is looked for more often than all else."""
        for kind in KINDS:
            steering.finish_cancelled(kind)
        if self._clock() - self._swept_at >= config.settings().sweep_seconds:
            self._swept_at = self._clock()
            self.sweep()

    def sweep(self) -> None:
        now = self._clock()
        for kind in KINDS:
            steering.recover_lost(kind)
        with transaction() as session:
            runs.resume_due(session)
            judgements.resume_due(session)
            judgements.pause_what_was_left(session)
            access.delete_expired_keys(session)
            presence.forget_silent(session)
        for task, waiting in WAITING:
            with transaction() as session:
                ids = waiting(session)
            for id in ids:
                self._notified.setdefault(id, now - NOTIFY_AGAIN_SECONDS + FIRST_NOTIFY_SECONDS)
                if now - self._notified[id] >= NOTIFY_AGAIN_SECONDS:
                    self._notified[id] = now
                    queue.notify(task, id)
        self._notified = {id: at for id, at in self._notified.items() if now - at < 10 * NOTIFY_AGAIN_SECONDS}


def lead(stop: threading.Event) -> None:
    """Sweep until asked to stop, each time only if no other sweeper is at it."""
    with engine().connect() as connection:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        sweeper = Sweeper()
        while not stop.is_set():
            if connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LEADER_LOCK}):
                sweeper.look()
                connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": LEADER_LOCK})
            stop.wait(min(LOOK_SECONDS, config.settings().sweep_seconds))


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
