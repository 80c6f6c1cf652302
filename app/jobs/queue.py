"""All Celery knowledge: the app, the queues, the task names, and notifying workers after a commit.

Postgres is the truth and a Celery message is a wake-up. It carries an id only; losing one costs
the time until the sweeper sends it again, and a second one finds nothing left to claim.
"""

import logging
import time
from collections.abc import Callable
from functools import cache

from celery import Celery
from kombu import Connection, Queue, pools
from kombu.exceptions import OperationalError
from sqlalchemy.orm import Session

from app import config
from app.persistence.db import after_commit
from app.tables.jobs import EXPORTS, FINETUNING, GENERATION, SCORINGS

log = logging.getLogger(__name__)

RUN = "generation.run"
REMOTE = "generation.remote_batches"
IMPORT = "generation.import"
MAINTENANCE = "generation.maintenance"
JUDGEMENT = "generation.judge"
ENCODE = "generation.encode"
SNAPSHOT = "exports.snapshot"
FINETUNE = "finetuning.finetune"
SCORING = "scoring.score"

QUEUE_OF = {
    **dict.fromkeys((RUN, REMOTE, IMPORT, MAINTENANCE, JUDGEMENT, ENCODE), GENERATION),
    SNAPSHOT: EXPORTS,
    FINETUNE: FINETUNING,
    SCORING: SCORINGS,
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
        task_queues=[Queue(name) for name in (GENERATION, EXPORTS, FINETUNING, SCORINGS)],
        task_routes={task: {"queue": queue} for task, queue in QUEUE_OF.items()},
        task_publish_retry=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": 300,
            "health_check_interval": 25,
            "socket_connect_timeout": 2,
            "socket_timeout": 60,
            "global_keyprefix": "seedbed:",
            # A wake-up must not hold up the request that sends it: the sweeper sends it again.
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

# A worker waits long for a message. Who sends one does not wait for a Redis that hangs, and then leaves it alone.
SEND_TIMEOUT_SECONDS, BACK_OFF_SECONDS = 2, 5


@cache
def _connection(broker_url: str) -> Connection:
    return app.connection_for_write(broker_url, transport_options={"socket_timeout": SEND_TIMEOUT_SECONDS})


def _send(task: str, id: str) -> None:
    with pools.producers[_connection(app.conf.broker_url)].acquire(block=True) as producer:
        app.send_task(task, args=[id], ignore_result=True, producer=producer)


class Notifier:
    """Sends wake-ups. After one that failed it sends none for a while."""

    def __init__(self, send: Callable[[str, str], None] = _send, clock: Callable[[], float] = time.monotonic):
        self._send, self._clock = send, clock
        self._quiet_until = float("-inf")

    def notify(self, task: str, id: str) -> bool:
        """Whether the wake-up was sent. A Redis that is down or hangs is logged: the sweeper reads the row."""
        if self._clock() < self._quiet_until:
            return False
        try:
            self._send(task, id)
        except (OperationalError, OSError) as error:
            self._quiet_until = self._clock() + BACK_OFF_SECONDS
            log.warning("the wake-up %s for %s was not sent (%s); the sweeper will send it", task, id, error)
            return False
        return True


_notifier = Notifier()
notify = _notifier.notify


def notify_after_commit(session: Session, task: str, id: str) -> None:
    after_commit(session, lambda: notify(task, id))
