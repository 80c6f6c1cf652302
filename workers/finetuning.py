"""The fine-tuning worker: supervises one training child at a time. It never loads torch itself."""

import logging

from app.finetunes import training
from app.jobs import queue
from app.scorings import scoring

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")


@queue.app.task(name=queue.FINETUNE)
def finetune(id: str) -> None:
    training.train(id)


@queue.app.task(name=queue.SCORING)
def score(id: str) -> None:
    scoring.score(id)
