"""The presence of workers: each writes a heartbeat every few seconds, and counts as dead after a longer silence."""

import logging
import threading
import uuid

from sqlalchemy import delete, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.jobs.leases import OWNER, seconds_from_now
from app.persistence.db import transaction
from app.tables.jobs import Worker

log = logging.getLogger(__name__)

# Five heartbeats: a worker under load that misses one or two does not count as dead.
HEARTBEAT_SECONDS, SILENT_SECONDS = 3.0, 15.0


def alive():
    """Return the SQL condition that a worker has written a heartbeat lately."""
    return Worker.seen_at > seconds_from_now(-SILENT_SECONDS)


class Presence:
    """The row of this worker process in the table of workers.

    Args:
        queues: The queues from which it takes jobs.
        slots: How many jobs it works on at once.
    """

    def __init__(self, queues: list[str], slots: int):
        self.id, self.queues, self.slots = f"{OWNER}:{uuid.uuid4().hex[:8]}", queues, slots

    def start(self, stop: threading.Event) -> None:
        """Start the thread that writes the heartbeats; it removes the row when `stop` is set."""
        threading.Thread(target=self._run, args=(stop,), name="presence", daemon=True).start()

    def beat(self) -> None:
        """Write one heartbeat."""
        row = insert(Worker).values(id=self.id, queues=self.queues, slots=self.slots)
        row = row.on_conflict_do_update(index_elements=[Worker.id], set_={"seen_at": func.clock_timestamp()})
        with transaction() as session:
            session.execute(row)

    def remove(self) -> None:
        """Remove the row of this worker."""
        with transaction() as session:
            session.execute(delete(Worker).where(Worker.id == self.id))

    def _run(self, stop: threading.Event) -> None:
        self._try(self.beat)
        while not stop.wait(HEARTBEAT_SECONDS):
            self._try(self.beat)
        self._try(self.remove)

    def _try(self, action) -> None:
        try:
            action()
        except SQLAlchemyError as error:
            log.warning("the heartbeat of this worker could not be written, and is written again: %s", error)


def delete_silent_workers(session: Session) -> None:
    """Delete the rows of workers that count as dead."""
    session.execute(delete(Worker).where(~alive()))
