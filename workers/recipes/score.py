"""Scores of rows by a causal language model: `python -m workers.recipes.score job.json`.

perplexity = exp(mean nats of the answer's tokens, given its prompt)
ifd        = perplexity / perplexity of the answer alone: Instruction-Following Difficulty (Li et al. 2024, "From
             Quantity to Quality", section 2; a ratio of perplexities as in Superfiltering, Li et al. 2024). Over 1
             the instruction does not help at all; the higher below 1, the harder it is to follow.

Prompts are rendered as in training (chat_dataset); of a dialogue the last answer counts. The answer alone follows
the tokenizer's first token, or its end token where it has none, so that its own first token is predicted, too.
Events on stdout: stage, base_model, progress (done, rows), scores (a list of {id, perplexity, ifd, tokens, truncated}
with nulls and a reason where there is nothing to score), done. Exit status as of sft.
"""

import math
import sys
import time
from pathlib import Path

from workers.recipes.events import Emit, make_emitter, reserve_stdout
from workers.recipes.failures import Failure
from workers.recipes.score_job import ScoreJob, read_score_job
from workers.recipes.sft import configure_libraries, die_with_parent, report_failure

TELL_SECONDS = 1.0
TELL_ROWS = 200


def main(arguments: list[str]) -> int:
    die_with_parent()
    emit = make_emitter(reserve_stdout())
    try:
        if len(arguments) != 1:
            raise Failure("invalid_job", "Give one argument: the job file.")
        job = read_score_job(Path(arguments[0]))
        configure_libraries(offline=job.base_model.kind != "hub")
        run(job, emit)
    except Exception as error:
        return report_failure(error, emit)
    return 0


def run(job: ScoreJob, emit: Emit) -> None:
    """Score every row, in chunks as they come."""
    # Imported only now: torch takes seconds, and a bad job should be told at once.
    from workers.recipes.likelihood import Scorer, read_rows

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
    sys.exit(main(sys.argv[1:]))
