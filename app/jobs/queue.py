"""All Celery knowledge: the app, the queues, the task names, and ringing after commit.

Postgres is the truth and Celery is a doorbell. A message carries an id only; losing one costs
the time until the sweeper rings again, and a second one finds nothing left to claim.
"""

import logging
import time
from functools import cache

from celery import Celery
from kombu import Connection, Queue, pools
from kombu.exceptions import OperationalError
from sqlalchemy.orm import Session

from app import config
from app.db import after_commit

log = logging.getLogger(__name__)

GENERATION, EXPORTS, FINETUNING = "generation", "exports", "finetuning"

RUN = "generation.run"
REMOTE = "generation.remote_batches"
IMPORT = "generation.import"
REVIEW = "generation.review"
ENCODE = "generation.encode"
SNAPSHOT = "exports.snapshot"
FINETUNE = "finetuning.finetune"
SCORING = "finetuning.scoring"

QUEUE_OF = {
    **dict.fromkeys((RUN, REMOTE, IMPORT, REVIEW, ENCODE), GENERATION),
    SNAPSHOT: EXPORTS,
    **dict.fromkeys((FINETUNE, SCORING), FINETUNING),
}


def _make_app() -> Celery:
    app = Celery("seedbed", set_as_current=True)
    app.conf.update(
        broker_url=config.settings().redis_url,
        task_ignore_result=True,
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        accept_content=["json"],
        task_serializer="json",
        task_queues=[Queue(name) for name in (GENERATION, EXPORTS, FINETUNING)],
        task_routes={task: {"queue": queue} for task, queue in QUEUE_OF.items()},
        task_publish_retry=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": 300,
            "health_check_interval": 25,
            "socket_connect_timeout": 2,
            "socket_timeout": 60,
            "global_keyprefix": "seedbed:",
            # A ring must not hold up the request that made it: the sweeper rings again.
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.1,
            "interval_max": 0.1,
        },
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
    )
    return app


app = _make_app()

# Workers wait long for a message. Who rings does not wait for a Redis that hangs, and leaves it alone for a while then.
RING_TIMEOUT_SECONDS, QUIET_SECONDS = 2, 5
_quiet_until = 0.0


@cache
def _bells(broker_url: str) -> Connection:
    return app.connection_for_write(broker_url, transport_options={"socket_timeout": RING_TIMEOUT_SECONDS})


def ring(task: str, id: str) -> bool:
    """Send one doorbell. A Redis that is down or hangs is logged: the sweeper rings again from the row."""
    global _quiet_until
    if time.monotonic() < _quiet_until:
        return False
    try:
        with pools.producers[_bells(app.conf.broker_url)].acquire(block=True) as producer:
            app.send_task(task, args=[id], ignore_result=True, producer=producer)
    except (OperationalError, OSError) as error:
        _quiet_until = time.monotonic() + QUIET_SECONDS
        log.warning("the doorbell %s for %s was not sent (%s); the sweeper will ring", task, id, error)
        return False
    return True


def ring_after_commit(session: Session, task: str, id: str) -> None:
    after_commit(session, lambda: ring(task, id))
