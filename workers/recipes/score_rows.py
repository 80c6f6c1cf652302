"""The scoring of rows, from the model to the last event. score.py starts it."""

import math
import sys
import time

from app.training_jobs.jobs import ScoreJob
from workers.recipes.events import Emit
from workers.recipes.likelihood import Scorer, read_rows
from workers.recipes.process import run_recipe

# Scores go out in chunks: the worker stores a chunk in one transaction, and the progress still moves each second.
CHUNK_SECONDS = 1.0
CHUNK_ROWS = 200


def score_rows(job: ScoreJob, emit: Emit) -> None:
    """Score every row, and emit the scores in chunks.

    Args:
        job: The job, with the file of rows and the base model.
        emit: Receives the stage, base_model, scores, progress and done events.

    Raises:
        Failure: The rows cannot be read, or the base model cannot be loaded.
    """
    started = time.monotonic()
    emit("stage", stage="load", message="Reading the rows.")
    rows = read_rows(job.rows)
    scorer = Scorer(job, rows, emit)
    emit("stage", stage="score", message=f"Scoring {len(rows)} rows.")
    chunk, emitted_at, scores = [], time.monotonic(), []
    for score in scorer.scores():
        chunk.append(score)
        if len(chunk) >= CHUNK_ROWS or time.monotonic() - emitted_at > CHUNK_SECONDS:
            scores += chunk
            emit("scores", scores=chunk)
            emit("progress", step=len(scores), total_steps=len(rows))
            chunk, emitted_at = [], time.monotonic()
    if chunk:
        scores += chunk
        emit("scores", scores=chunk)
    _emit_summary(scores, time.monotonic() - started, emit)


def _emit_summary(scores: list[dict], seconds: float, emit: Emit) -> None:
    scored = [score for score in scores if score["perplexity"] is not None]
    ifd = [score["ifd"] for score in scored]
    logs = [math.log(score["perplexity"]) for score in scored]
    emit(
        "done",
        rows=len(scores),
        scored=len(scored),
        truncated=sum(score["truncated"] for score in scores),
        mean_ifd=round(sum(ifd) / len(ifd), 6) if ifd else None,
        ifd_over_one=sum(value >= 1 for value in ifd),
        # The mean of logarithms: one row of a rare language must not drown all others.
        typical_perplexity=round(math.exp(sum(logs) / len(logs)), 4) if logs else None,
        seconds=round(seconds, 2),
    )


if __name__ == "__main__":
    sys.exit(run_recipe(sys.argv[1:], ScoreJob, score_rows))
