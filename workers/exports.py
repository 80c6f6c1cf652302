"""The exports worker: writes snapshots."""

import logging

from app import queue
from app.snapshots import service

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")


@queue.app.task(name=queue.SNAPSHOT)
def snapshot(id: str) -> None:
    service.write(id)
