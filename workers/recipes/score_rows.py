"""The scoring of rows, from the model to the last event. score.py starts it."""

import math
import sys
import time

from app.training_jobs.jobs import ScoreJob
from workers.recipes.events import Emit
from workers.recipes.likelihood import Scorer, read_rows
from workers.recipes.process import run_recipe

TELL_SECONDS = 1.0
TELL_ROWS = 200


def score_rows(job: ScoreJob, emit: Emit) -> None:
    """Score every row, in chunks as they come."""
    started = time.monotonic()
    emit("stage", stage="load", message="Reading the rows.")
    rows = read_rows(job.rows)
    scorer = Scorer(job, rows, emit)
    emit("stage", stage="score", message=f"Scoring {len(rows)} rows.")
    made, told, found = [], time.monotonic(), []
    for score in scorer.scores():
        made.append(score)
        if len(made) >= TELL_ROWS or time.monotonic() - told > TELL_SECONDS:
            found += made
            emit("scores", scores=made)
            emit("progress", step=len(found), total_steps=len(rows))
            made, told = [], time.monotonic()
    if made:
        found += made
        emit("scores", scores=made)
    _tell_end(found, time.monotonic() - started, emit)


def _tell_end(found: list[dict], seconds: float, emit: Emit) -> None:
    scored = [one for one in found if one["perplexity"] is not None]
    ifd = [one["ifd"] for one in scored]
    logs = [math.log(one["perplexity"]) for one in scored]
    emit(
        "done",
        rows=len(found),
        scored=len(scored),
        truncated=sum(one["truncated"] for one in found),
        mean_ifd=round(sum(ifd) / len(ifd), 6) if ifd else None,
        ifd_over_one=sum(one >= 1 for one in ifd),
        # The mean of logarithms: one row of a rare language must not drown all others.
        typical_perplexity=round(math.exp(sum(logs) / len(logs)), 4) if logs else None,
        seconds=round(seconds, 2),
    )


if __name__ == "__main__":
    sys.exit(run_recipe(sys.argv[1:], ScoreJob, score_rows))
