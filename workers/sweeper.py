"""The sweeper: it wakes up workers for jobs that no worker holds, and ends jobs that can end.

Start it with `python -m workers.sweeper`. It needs PostgreSQL and no Redis. Any number of sweepers may run: an advisory
lock lets one sweep at a time.
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
from app.maintenance.kinds import KINDS as MAINTENANCE_KINDS
from app.masking import mask_logs
from app.persistence.db import engine, transaction
from app.runs import service as runs
from app.runs import store as run_store
from app.runs import teacher_checks
from app.snapshots import writing as snapshots

log = logging.getLogger("seedbed.sweeper")

# Any number that no other advisory lock of the database uses.
LEADER_LOCK = 7_301_923
CANCEL_CHECK_SECONDS = 0.5
# A worker may be busy, so a job that waits is no sign of a lost message. More messages would fill the queue.
NOTIFY_AGAIN_SECONDS = 10.0
# A new job gets a wake-up at its commit, which is probably not delivered yet when the sweeper first sees the job.
FIRST_NOTIFY_SECONDS = 4.0

KINDS: tuple[JobKind, ...] = (
    import_job.KIND,
    *MAINTENANCE_KINDS.values(),
    JUDGEMENT,
    teacher_checks.KIND,
    snapshots.KIND,
    finetunes.KIND,
    scorings.KIND,
)
# The task to wake up, and the function that lists the ids of the jobs that wait for it.
WAITING: tuple[tuple[str, Callable[[Session], list[str]]], ...] = (
    (queue.RUN, runs.finalize_and_list_waiting),
    (queue.REMOTE, run_store.list_runs_with_remote_work),
    *((kind.task, partial(runner.list_waiting, kind=kind)) for kind in KINDS),
)


class Sweeper:
    """The state of one sweeper: the time of the last wake-up for each job, and of the last sweep.

    `clock` returns seconds, as time.monotonic does.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._notified: dict[str, float] = {}
        self._swept_at = float("-inf")

    def check(self) -> None:
        """End cancelled jobs, and sweep if the last sweep was `sweep_seconds` ago.

        A cancel must take effect within seconds, so it is checked more often than all else.
        """
        for kind in KINDS:
            steering.finish_cancelled(kind)
        if self._clock() - self._swept_at >= config.settings().sweep_seconds:
            self._swept_at = self._clock()
            self.sweep()

    def sweep(self) -> None:
        """Recover jobs of lost workers, resume paused jobs, delete what has expired, and send wake-ups."""
        now = self._clock()
        for kind in KINDS:
            steering.recover_lost(kind)
        with transaction() as session:
            runs.resume_due(session)
            judgements.resume_due(session)
            judgements.pause_abandoned(session)
            access.delete_expired_keys(session)
            presence.delete_silent_workers(session)
        for task, list_waiting in WAITING:
            with transaction() as session:
                ids = list_waiting(session)
            for id in ids:
                self._notified.setdefault(id, now - NOTIFY_AGAIN_SECONDS + FIRST_NOTIFY_SECONDS)
                if now - self._notified[id] >= NOTIFY_AGAIN_SECONDS:
                    self._notified[id] = now
                    queue.notify(task, id)
        # Without this the dictionary would keep an entry for every job that there ever was.
        self._notified = {
            id: sent_at for id, sent_at in self._notified.items() if now - sent_at < 10 * NOTIFY_AGAIN_SECONDS
        }


def lead(stop: threading.Event) -> None:
    """Sweep until `stop` is set, each time only if no other sweeper holds the lock.

    Raises:
        SQLAlchemyError: The database is unavailable.
    """
    with engine().connect() as connection:
        # A transaction that stays open would keep old rows of the whole database from being cleaned up.
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        sweeper = Sweeper()
        while not stop.is_set():
            if connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LEADER_LOCK}):
                sweeper.check()
                connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": LEADER_LOCK})
            stop.wait(min(CANCEL_CHECK_SECONDS, config.settings().sweep_seconds))


def main() -> None:
    """Sweep until SIGTERM or SIGINT, and continue after the database was unavailable."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    mask_logs(config.secrets())
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    while not stop.is_set():
        try:
            lead(stop)
        except SQLAlchemyError as error:
            log.warning("The database is unavailable: %s", error)
            stop.wait(config.settings().sweep_seconds)


if __name__ == "__main__":
    main()
