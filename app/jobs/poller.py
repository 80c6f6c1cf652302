"""Looking into Postgres for jobs that no wake-up came for: with Redis away nothing else would begin them."""

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

Waiting = Callable[[Session], list[str]]


def redis_answers() -> bool:
    try:
        with Redis.from_url(config.redis_url(), socket_connect_timeout=2, socket_timeout=2) as redis:
            return bool(redis.ping())
    except (RedisError, OSError):
        return False


class Poller:
    """A thread that works while Redis is away. `kinds`: the ids of the jobs that wait, and what works on one.

    `wait(seconds)` returns True when the worker is to end; `broker_answers` says whether wake-ups arrive.
    """

    def __init__(
        self,
        kinds: dict[Waiting, Callable[[str], None]],
        stop: threading.Event,
        broker_answers: Callable[[], bool] = redis_answers,
        wait: Callable[[float], bool] | None = None,
    ):
        self._kinds, self._stop = kinds, stop
        self._broker_answers, self._wait = broker_answers, wait or stop.wait

    def start(self) -> None:
        threading.Thread(target=self.run, name="polling", daemon=True).start()

    def run(self) -> None:
        """Look again and again, until the worker is to end."""
        while not self._wait(config.settings().poll_seconds):
            try:
                if not self._broker_answers():
                    self.look()
            except SQLAlchemyError as error:
                log.warning("the database is away: %s", error)
            except Exception:
                log.exception("polling failed")

    def look(self) -> None:
        """Work on all that waits, one after another; claims keep workers apart."""
        for waiting, work in self._kinds.items():
            with transaction() as session:
                ids = waiting(session)
            for id in ids:
                if self._stop.is_set():
                    return
                log.info("working on %s without a wake-up: Redis is away", id)
                work(id)
