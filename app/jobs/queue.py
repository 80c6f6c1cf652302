"""All that depends on Celery: the app, the queues, the task names, and the wake-ups of workers after a commit.

Jobs are stored in Postgres, and a Celery message is only a wake-up with the id of a job. When a wake-up is lost, the
job waits until the sweeper (workers/sweeper.py) sends another one. When a wake-up comes twice, the second finds nothing
to claim.
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
TEACHER_CHECK = "generation.check_teacher"
SNAPSHOT = "exports.snapshot"
FINETUNE = "finetuning.finetune"
SCORING = "scoring.score"

QUEUE_OF = {
    **dict.fromkeys((RUN, REMOTE, IMPORT, MAINTENANCE, JUDGEMENT, ENCODE, TEACHER_CHECK), GENERATION),
    SNAPSHOT: EXPORTS,
    FINETUNE: FINETUNING,
    SCORING: SCORINGS,
}


def _make_app() -> Celery:
    app = Celery("seedbed", set_as_current=True)
    app.conf.update(
        broker_url=config.settings().redis_url,
        task_ignore_result=True,
        # Acknowledged before the work: a message that waits for its acknowledgement longer than the visibility timeout
        # would be delivered again. When a worker is lost, its job is claimed again after the lease has expired, and the
        # message is not needed.
        task_acks_late=False,
        # A worker that took several messages would keep jobs from other workers that have nothing to do.
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
            # A wake-up must not delay the request that sends it: the sweeper sends it again.
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

# The timeout is shorter than that of workers, which wait for messages: a request must not wait for a Redis that hangs.
# After a failure no wake-up is sent for some seconds, so that the next requests do not wait for the same timeout.
SEND_TIMEOUT_SECONDS, BACK_OFF_SECONDS = 2, 5


@cache
def _connection(broker_url: str) -> Connection:
    return app.connection_for_write(broker_url, transport_options={"socket_timeout": SEND_TIMEOUT_SECONDS})


def _send(task: str, id: str) -> None:
    with pools.producers[_connection(app.conf.broker_url)].acquire(block=True) as producer:
        app.send_task(task, args=[id], ignore_result=True, producer=producer)


class Notifier:
    """Sends wake-ups. After one that failed it sends none for BACK_OFF_SECONDS.

    Args:
        send: `send(task, id)` sends one message.
        clock: Returns seconds of a clock that never goes back.
    """

    def __init__(self, send: Callable[[str, str], None] = _send, clock: Callable[[], float] = time.monotonic):
        self._send, self._clock = send, clock
        self._back_off_until = float("-inf")

    def notify(self, task: str, id: str) -> bool:
        """Send a wake-up for the job with this id.

        Returns:
            Whether it was sent. An error is only logged, since the sweeper finds the job in Postgres.
        """
        if self._clock() < self._back_off_until:
            return False
        try:
            self._send(task, id)
        except (OperationalError, OSError) as error:
            self._back_off_until = self._clock() + BACK_OFF_SECONDS
            log.warning("the wake-up %s for %s could not be sent (%s); the sweeper sends it later", task, id, error)
            return False
        return True


_notifier = Notifier()
notify = _notifier.notify


def notify_after_commit(session: Session, task: str, id: str) -> None:
    """Send a wake-up once the session's transaction is committed: a worker that came earlier would find no job."""
    after_commit(session, lambda: notify(task, id))
