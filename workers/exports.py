"""The exports worker: writes snapshots."""

import logging
import threading

from celery.signals import worker_init, worker_shutting_down

from app.jobs import queue
from app.jobs.poller import Poller
from app.snapshots import service

SHUTDOWN = threading.Event()

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")


@queue.app.task(name=queue.SNAPSHOT)
def snapshot(id: str) -> None:
    service.write(id)


@worker_init.connect
def _poll(**_) -> None:
    Poller({service.unfinished: snapshot}, SHUTDOWN).start()


@worker_shutting_down.connect
def _stop(**_) -> None:
    SHUTDOWN.set()
