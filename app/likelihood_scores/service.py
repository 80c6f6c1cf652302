"""Creates and cancels jobs that score rows, for the API. The scoring itself is in scoring.py."""

from sqlalchemy.orm import Session

from app import config
from app.access.service import Caller
from app.datasets import store as dataset_store
from app.datasets import training_rows
from app.datasets.training_rows import RowFilter
from app.errors import invalid
from app.jobs import event_log, queue, steering
from app.likelihood_scores import store
from app.likelihood_scores.schemas import LikelihoodScoresCreate
from app.likelihood_scores.scoring import KIND
from app.persistence.ids import new_id
from app.runs import store as run_store
from app.tables.likelihood_scores import LikelihoodScores


def create(session: Session, caller: Caller, body: LikelihoodScoresCreate) -> LikelihoodScores:
    """Store a queued job, and wake up a worker after the commit.

    Raises:
        AppError: 422 for an unknown base model, dataset or run, or if there is no row to score.
    """
    rows = _count_rows_of_valid_request(session, caller, body)
    row = LikelihoodScores(
        id=new_id("sco"),
        project_id=caller.project_id,
        dataset_id=body.dataset_id,
        run_id=body.run_id,
        base_model=body.base_model,
        max_length=body.max_length,
        rows=rows,
        done_rows=0,
        attempt=0,
        lease_token=0,
    )
    session.add(row)
    session.flush()
    # The database sets the defaults, such as the status and the times, which the response shows.
    session.refresh(row)
    event_log.emit_status(session, row)
    queue.notify_after_commit(session, queue.SCORING, row.id)
    return row


def _count_rows_of_valid_request(session: Session, caller: Caller, body: LikelihoodScoresCreate) -> int:
    # Checked at the request: otherwise the caller would learn it only when a worker is free.
    models = config.base_models()
    if body.base_model not in models:
        raise invalid("/base_model", f"no base model {body.base_model!r}; there are: {', '.join(models)}", "unknown")
    if not models[body.base_model].is_trainable:
        message = f"the base model {body.base_model!r} is a GGUF file, which only a teacher can use"
        raise invalid("/base_model", message, "not_trainable")
    if dataset_store.find_dataset(session, caller.project_id, body.dataset_id) is None:
        raise invalid("/dataset_id", f"no dataset {body.dataset_id!r} in this project", "unknown")
    if body.run_id is not None and not run_store.has_run(session, body.dataset_id, body.run_id):
        raise invalid("/run_id", f"no run {body.run_id!r} on this dataset", "unknown")
    rows = training_rows.count_rows(session, RowFilter(body.dataset_id, run_id=body.run_id))
    # A job without rows would succeed without any score, and the caller would look for the fault elsewhere.
    if rows == 0:
        raise invalid("/dataset_id", "there are no accepted rows with an output to score", "empty")
    return rows


def cancel(session: Session, caller: Caller, id: str) -> LikelihoodScores:
    """Request the end of a job, and return its row. A job that has ended stays unchanged.

    Raises:
        AppError: 404, if the project has no such job.
    """
    # This raises 404 for a job of another project, which the caller may not cancel.
    store.scoring(session, caller.project_id, id)
    return steering.cancel(session, KIND, id)
