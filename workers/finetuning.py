"""The fine-tuning worker: supervises one training child at a time. It never loads torch itself."""

import threading

from app.finetunes.training import KIND
from app.jobs import queue, runner
from workers.process import SHUTDOWN, serve, waiting

# The poller works in a thread of its own: with Redis away, a second training must not begin beside the first.
_one_at_a_time = threading.Lock()


@queue.app.task(name=queue.FINETUNE)
def finetune(id: str) -> None:
    with _one_at_a_time:
        runner.work(KIND, id, shutdown=SHUTDOWN)


serve(queue.FINETUNING, waiting([KIND], finetune))
