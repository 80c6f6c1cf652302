"""The fine-tuning worker: it supervises one training process at a time, and never loads torch itself."""

import threading

from app.finetunes.training import KIND
from app.jobs import queue, runner
from workers.process import SHUTDOWN, map_queries_to_work, serve

# The poller has its own thread. Without this lock it could start a second training while Redis is unavailable.
_one_at_a_time = threading.Lock()


@queue.app.task(name=queue.FINETUNE)
def finetune(id: str) -> None:
    """Work on one fine-tune, after a running one has ended."""
    with _one_at_a_time:
        runner.work(KIND, id, shutdown=SHUTDOWN)


serve(queue.FINETUNING, map_queries_to_work([KIND], finetune))
