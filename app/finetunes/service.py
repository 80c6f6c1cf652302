"""Creates, cancels and reads fine-tunes for the API. The training itself is in training.py."""

from sqlalchemy.orm import Session

from app import config
from app.access.service import Caller
from app.errors import conflict, invalid, not_found
from app.finetunes import store
from app.finetunes.schemas import BaseModelView, FineTuneCreate
from app.finetunes.training import KIND
from app.jobs import event_log, queue, steering
from app.persistence.ids import new_id
from app.snapshots import store as snapshots
from app.snapshots.rows import SnapshotRow
from app.tables.finetunes import FineTune


def create(session: Session, caller: Caller, body: FineTuneCreate) -> FineTune:
    """Store a queued fine-tune, and wake up a worker after the commit.

    Raises:
        AppError: 422 for an unknown base model or snapshot, or a snapshot without training rows; 409 for a snapshot
            that has not succeeded.
    """
    snapshot = _require_snapshot(session, caller, body)
    row = FineTune(
        id=new_id("ft"),
        project_id=caller.project_id,
        snapshot_id=snapshot.id,
        base_model=body.base_model,
        method=body.method,
        # Only what the caller has set: the recipe chooses the rest for the base model.
        hyperparameters=body.hyperparameters.model_dump(mode="json", exclude_unset=True),
        seed=body.seed,
        simulated=bool(snapshot.simulated),
        evaluations=[],
        attempt=0,
        lease_token=0,
    )
    session.add(row)
    session.flush()
    # The database sets the defaults, such as the status and the times, which the response shows.
    session.refresh(row)
    event_log.emit_status(session, row)
    queue.notify_after_commit(session, queue.FINETUNE, row.id)
    return row


def _require_snapshot(session: Session, caller: Caller, body: FineTuneCreate) -> SnapshotRow:
    models = config.base_models()
    if body.base_model not in models:
        raise invalid("/base_model", f"no base model {body.base_model!r}; there are: {', '.join(models)}", "unknown")
    if not models[body.base_model].is_trainable:
        message = f"the base model {body.base_model!r} is a GGUF file, which only a teacher can use"
        raise invalid("/base_model", message, "not_trainable")
    snapshot = snapshots.find_snapshot(session, caller.project_id, body.snapshot_id)
    if snapshot is None:
        raise invalid("/snapshot_id", f"no snapshot {body.snapshot_id!r} in this project", "unknown")
    # Checked at the request: otherwise the caller would learn it only when a worker is free.
    if snapshot.status != "succeeded":
        raise conflict(f"The snapshot is {snapshot.status}; a fine-tune needs one that has succeeded.")
    if not any(file["form"] == "messages" and file["split"] == "train" and file["rows"] for file in snapshot.files):
        raise invalid("/snapshot_id", "the snapshot has no training rows in the form messages", "no_train_rows")
    return snapshot


def cancel(session: Session, caller: Caller, id: str) -> FineTune:
    """Request the end of a fine-tune, and return its row. A fine-tune that has ended stays unchanged.

    Raises:
        AppError: 404, if the project has no such fine-tune.
    """
    # This raises 404 for a fine-tune of another project, which the caller may not cancel.
    store.fine_tune(session, caller.project_id, id)
    return steering.cancel(session, KIND, id)


def load_artifact(session: Session, caller: Caller, id: str, name: str) -> dict:
    """Return the entry of one artifact (name, bytes, sha256, path).

    Raises:
        AppError: 404, if there is no such fine-tune or artifact.
    """
    # Only names of the row are served: a name from a request must never become a path in the storage.
    return _require_artifact(store.fine_tune(session, caller.project_id, id), name)


def _require_artifact(row: FineTune, name: str) -> dict:
    artifact = next((artifact for artifact in row.artifacts or () if artifact["name"] == name), None)
    if artifact is None:
        raise not_found("artifact", name)
    return artifact


def base_models() -> list[BaseModelView]:
    """Return the base models of the configuration."""
    return [
        BaseModelView(name=model.name, kind=model.kind, hub=model.hub, revision=model.revision)
        for model in config.base_models().values()
    ]
