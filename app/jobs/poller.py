"""Looking into Postgres for work that no bell rang for: with Redis away nothing else would begin it."""

import logging
import threading
from collections.abc import Callable

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import config
from app.db import transaction

log = logging.getLogger(__name__)


class Poller:
    """A thread that works while Redis is away. `kinds`: whose work may wait, and what works on one of them."""

    def __init__(self, kinds: dict[Callable[[Session], list[str]], Callable[[str], None]], stop: threading.Event):
        self._kinds, self._stop = kinds, stop
        self._redis = Redis.from_url(config.redis_url(), socket_connect_timeout=2, socket_timeout=2)

    def start(self) -> None:
        threading.Thread(target=self._run, name="polling", daemon=True).start()

    def _run(self) -> None:
        while not self._stop.wait(config.settings().poll_seconds):
            try:
                if not self._bells_ring():
                    self.look()
            except SQLAlchemyError as error:
                log.warning("the database is away: %s", error)
            except Exception:
                log.exception("polling failed")

    def _bells_ring(self) -> bool:
        try:
            return bool(self._redis.ping())
        except (RedisError, OSError):
            return False

    def look(self) -> None:
        """Work on all that waits, one after another; claims keep workers apart."""
        for waiting, work in self._kinds.items():
            with transaction() as session:
                ids = waiting(session)
            for id in ids:
                if self._stop.is_set():
                    return
                log.info("working on %s without a bell: Redis is away", id)
                work(id)
