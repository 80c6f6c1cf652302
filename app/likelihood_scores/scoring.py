"""Likelihood scores as a type of job: write the rows to a file, run the recipe in a child process, store its scores."""

import json
from pathlib import Path

from app import config
from app.datasets import records, training_rows
from app.datasets.training_rows import RowFilter
from app.finetunes.training import explain
from app.jobs import event_log, queue, recipe
from app.jobs.kinds import JobFailed, JobKind
from app.jobs.runner import RunningJob
from app.persistence.db import transaction
from app.synth.export.formats import to_messages
from app.tables.likelihood_scores import LikelihoodScores

RECIPE = "workers.recipes.score"
# How many rows are written between two looks at whether the job was cancelled.
ROWS_AT_ONCE = 500
# The recipe also reports tokens and reasons, which are no scores.
SCORES = ("perplexity", "ifd")


def score(job: RunningJob) -> None:
    """Perform one attempt.

    Raises:
        JobFailed: The worker has no such base model, or the recipe failed.
    """
    with recipe.working_folder(job) as work:
        job_file = job.retry_until_database_is_back(_prepare, job, work)
        summary = recipe.run(
            job, job_file, RECIPE, lambda event: job.retry_until_database_is_back(_store_event, job, event)
        )
        job.retry_until_database_is_back(_succeed, job, summary)


def _prepare(job: RunningJob, work: Path) -> Path:
    """Write the rows as messages and the job file, and return the path of the job file."""
    work.mkdir(parents=True, exist_ok=True)
    with transaction() as session, (work / "rows.jsonl").open("w", encoding="utf-8") as out:
        scoring = session.get(LikelihoodScores, job.id)
        rows = RowFilter(scoring.dataset_id, run_id=scoring.run_id)
        for number, row in enumerate(training_rows.stream_rows(session, rows)):
            # A cancel takes effect within seconds, also while a large dataset is read.
            if number % ROWS_AT_ONCE == 0:
                job.check()
            out.write(json.dumps({"id": row.id, **to_messages(row)}) + "\n")
    base_model = config.base_models().get(scoring.base_model)
    # Service and worker may run on different machines with different configurations.
    if base_model is None:
        message = f"The worker's configuration has no base model {scoring.base_model!r}, though the service's has."
        raise JobFailed("base_model_not_found", message)
    content = {
        "rows": str(work / "rows.jsonl"),
        "base_model": base_model.source(),
        "max_length": scoring.max_length,
    }
    job_file = work / "job.json"
    job_file.write_text(json.dumps(content), "utf-8")
    return job_file


def _store_event(job: RunningJob, event: dict) -> None:
    """Store one event of the recipe: scores with their records, other events in the log of the job."""
    with job.transaction() as (session, row):
        if event.get("event") == "scores":
            scores = event["scores"]
            for line in scores:
                records.add_scores(session, row.dataset_id, line["id"], _name_scores(line))
            row.done_rows += len(scores)
            job.progress(session, row, done_rows=row.done_rows, rows=row.rows)
        elif event.get("event") in ("stage", "base_model"):
            values = {name: value for name, value in event.items() if name != "event"}
            event_log.emit(session, row, event["event"], **values)


def _name_scores(line: dict) -> dict[str, float]:
    # A row without a result has nulls, which would look like the worst score in a selection.
    return {f"local.{name}": line[name] for name in SCORES if line[name] is not None}


def _succeed(job: RunningJob, summary: dict) -> None:
    with job.transaction() as (session, row):
        row.summary = summary
        job.succeed(session, row)


def reset(session, row: LikelihoodScores) -> None:
    """Set the progress back before a new attempt. The scores stay: the new attempt replaces them."""
    row.done_rows = 0


KIND = JobKind(
    name="scoring",
    table=LikelihoodScores,
    task=queue.SCORING,
    perform=score,
    explain=explain,
    max_attempts=3,
    reset=reset,
    discard_files=recipe.remove_folders,
)
