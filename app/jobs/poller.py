"""Polls Postgres for waiting jobs while Redis can't be reached, since no wake-up arrives then.

`workers.process.serve` starts it in every worker process.
"""

import logging
import threading
from collections.abc import Callable

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import config
from app.persistence.db import transaction

log = logging.getLogger(__name__)

ListWaiting = Callable[[Session], list[str]]
"""Returns the ids of the jobs of one type that a worker could claim now."""


def redis_answers() -> bool:
    """Return whether Redis answers a ping within two seconds."""
    try:
        with Redis.from_url(config.redis_url(), socket_connect_timeout=2, socket_timeout=2) as redis:
            return bool(redis.ping())
    except (RedisError, OSError):
        return False


class Poller:
    """A thread that works on waiting jobs while Redis can't be reached.

    Args:
        work_by_query: For each kind of job the function that lists the ids of waiting jobs, and the one that works on
            a job with an id.
        stop: Set when the worker is to end.
        broker_answers: Returns whether Redis, which brings the wake-ups, can be reached.
        wait: `wait(seconds)` waits and returns True when the worker is to end; `stop.wait` unless it is given.
    """

    def __init__(
        self,
        work_by_query: dict[ListWaiting, Callable[[str], None]],
        stop: threading.Event,
        broker_answers: Callable[[], bool] = redis_answers,
        wait: Callable[[float], bool] | None = None,
    ):
        self._work_by_query, self._stop = work_by_query, stop
        self._broker_answers, self._wait = broker_answers, wait or stop.wait

    def start(self) -> None:
        """Start the thread; it ends with the process."""
        threading.Thread(target=self.run, name="polling", daemon=True).start()

    def run(self) -> None:
        """Poll at the configured interval until the worker is to end. Errors are logged, and the next poll comes."""
        while not self._wait(config.settings().poll_seconds):
            try:
                if not self._broker_answers():
                    self.poll()
            except SQLAlchemyError as error:
                log.warning("the database can't be reached; polling goes on: %s", error)
            # Any error: a thread that ended would leave all jobs waiting until Redis is back.
            except Exception:
                log.exception("polling failed")

    def poll(self) -> None:
        """Work on all waiting jobs, one after another. A job that another worker has claimed meanwhile is skipped."""
        for list_waiting, work in self._work_by_query.items():
            with transaction() as session:
                ids = list_waiting(session)
            for id in ids:
                if self._stop.is_set():
                    return
                log.info("working on %s without a wake-up, because Redis can't be reached", id)
                work(id)
