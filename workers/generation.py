"""The generation worker: runs and imports. It holds the encoder and the pools for its process."""

import logging
import threading
from functools import cache

from celery.signals import worker_ready, worker_shutting_down

from app import config, queue
from app.datasets import imports
from app.datasets.pools import Pools
from app.db import transaction
from app.providers.encoder import load
from app.providers.teacher import Teacher
from app.runs import slice
from app.runs.asking import endpoint
from app.runs.teachers import reply_form
from app.synth.types import Encode

SHUTDOWN = threading.Event()
_loading = threading.Lock()

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
# One line for every call of a teacher would bury all others.
logging.getLogger("httpx2").setLevel(logging.WARNING)


@queue.app.task(name=queue.RUN)
def run(id: str) -> None:
    slice.work(id, tools())


@queue.app.task(name=queue.IMPORT)
def import_rows(id: str) -> None:
    imports.work(id, tools().pools)


@worker_ready.connect
def _warm(**_) -> None:
    """Load the encoder while nobody waits for it: it takes seconds."""
    threading.Thread(target=tools, name="warming", daemon=True).start()


@worker_shutting_down.connect
def _stop(**_) -> None:
    SHUTDOWN.set()


def tools() -> slice.Tools:
    with _loading:
        return _tools()


@cache
def _tools() -> slice.Tools:
    return slice.Tools(Pools(encoder()), teacher, SHUTDOWN)


def encoder() -> Encode:
    settings = config.settings()
    return load(settings.encoder, settings.encoder_threads)


def teacher(name: str) -> Teacher:
    with transaction() as session:
        return Teacher(endpoint(config.teachers()[name], reply_form(session, config.teachers()[name])))
