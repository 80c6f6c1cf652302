"""Which workers live, by the database's clock: each says so every few seconds, and one that is silent is gone."""

import logging
import threading
import uuid

from sqlalchemy import delete, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.jobs.leases import OWNER, in_seconds
from app.persistence.db import transaction
from app.tables.jobs import Worker

log = logging.getLogger(__name__)

SAY_SECONDS, SILENT_SECONDS = 3.0, 15.0


def alive():
    """The condition that a worker has said lately that it lives."""
    return Worker.seen_at > in_seconds(-SILENT_SECONDS)


class Presence:
    """A worker process that takes jobs from these queues, so many at once."""

    def __init__(self, queues: list[str], slots: int):
        self.id, self.queues, self.slots = f"{OWNER}:{uuid.uuid4().hex[:8]}", queues, slots

    def start(self, stop: threading.Event) -> None:
        threading.Thread(target=self._run, args=(stop,), name="presence", daemon=True).start()

    def say(self) -> None:
        """Write that this worker lives."""
        row = insert(Worker).values(id=self.id, queues=self.queues, slots=self.slots)
        row = row.on_conflict_do_update(index_elements=[Worker.id], set_={"seen_at": func.clock_timestamp()})
        with transaction() as session:
            session.execute(row)

    def leave(self) -> None:
        with transaction() as session:
            session.execute(delete(Worker).where(Worker.id == self.id))

    def _run(self, stop: threading.Event) -> None:
        self._try(self.say)
        while not stop.wait(SAY_SECONDS):
            self._try(self.say)
        self._try(self.leave)

    def _try(self, action) -> None:
        try:
            action()
        except SQLAlchemyError as error:
            log.warning("the database is away: %s", error)


def forget_silent(session: Session) -> None:
    session.execute(delete(Worker).where(~alive()))
