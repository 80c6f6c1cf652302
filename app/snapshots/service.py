"""Creates, cancels and reads snapshots. A snapshot is written once, by writing.py, and never changes afterwards."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.access.service import Caller
from app.datasets import store as dataset_store
from app.datasets import training_rows
from app.datasets.rows import DatasetRow
from app.errors import conflict, invalid, not_found
from app.jobs import event_log, queue, steering
from app.persistence.ids import new_id
from app.runs import store as run_store
from app.snapshots import export, row_selection, store
from app.snapshots.schemas import SnapshotCreate
from app.snapshots.writing import KIND
from app.synth.export.formats import needs_pairs
from app.tables.snapshots import Snapshot


def create(session: Session, caller: Caller, body: SnapshotCreate) -> Snapshot:
    """Create a snapshot of the rows that are in the pool now. Raises a 422 for a body that no row can satisfy."""
    # Protected until the commit: a dataset without snapshots can be deleted, and the new one is not visible before.
    dataset = dataset_store.protect_dataset(session, caller.project_id, body.dataset_id)
    if dataset is None:
        raise invalid("/dataset_id", f"no dataset {body.dataset_id!r} in this project", "unknown")
    if body.run_id is not None and not run_store.has_run(session, dataset.id, body.run_id):
        raise invalid("/run_id", f"no run {body.run_id!r} on this dataset", "unknown")
    spec = body.model_dump(mode="json", exclude={"dataset_id"})
    # Checked here although a worker exports: a caller who waits for a worker should not learn then that no row fits.
    _require_rows(session, dataset, spec)
    row = Snapshot(
        id=new_id("snap"),
        project_id=caller.project_id,
        dataset_id=dataset.id,
        spec=spec,
        # The snapshot is written later, but it must not include rows that are accepted after this moment.
        through_pool_position=dataset.last_pool_position,
        attempt=0,
        lease_token=0,
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    event_log.emit_status(session, row)
    queue.notify_after_commit(session, queue.SNAPSHOT, row.id)
    return row


def _require_rows(session: Session, dataset: DatasetRow, spec: dict) -> None:
    """Raise a 422 that says which rows, pairs or scores the dataset lacks for this snapshot."""
    row_filter = store.rows_of_spec(dataset.id, spec, dataset.last_pool_position)
    rows = training_rows.count_rows(session, row_filter)
    if rows == 0:
        raise invalid("/dataset_id", "the dataset has no accepted rows for this snapshot yet", "empty")
    if needs_pairs(spec["forms"]) and training_rows.count_pairs(session, row_filter) == 0:
        message = "the rows have no preference pairs; runs of several answers, and evolutions, make them"
        raise invalid("/forms", message, "no_pairs")
    selection = spec["selection"]
    if selection is None:
        return
    if selection["method"] == "facility_location" and rows > row_selection.MAX_FACILITY_LOCATION_ROWS:
        max_rows = row_selection.MAX_FACILITY_LOCATION_ROWS
        message = f"facility_location takes up to {max_rows} rows, not {rows}; narrow the rows first"
        raise invalid("/selection/method", message, "too_many")
    required = row_selection.list_required_scores(selection)
    if required and training_rows.count_scored_rows(session, row_filter, required) == 0:
        step = _how_to_score(required, dataset.id)
        message = f"no row has the scores {' and '.join(required)}; {step}, or name others"
        raise invalid("/selection", message, "no_scores")


def _how_to_score(names: Sequence[str], dataset_id: str) -> str:
    """The step that gives rows these scores, for the message of a 422."""
    if any(name.startswith("local.") for name in names):
        return f"score the rows first (POST /v1/likelihood-scores, or `seedbed likelihood-scores start {dataset_id}`)"
    return f"judge the rows first (POST /v1/judgements, or `seedbed judgements start {dataset_id}`)"


def load_manifest(session: Session, caller: Caller, id: str) -> dict:
    """The manifest of a snapshot. Raises a 409 for a snapshot that has not succeeded."""
    row = store.load_snapshot(session, caller.project_id, id)
    if row.status != "succeeded":
        raise conflict(f"The snapshot is {row.status}; its manifest comes when it has succeeded.")
    return export.read_manifest(id)


def load_file(session: Session, caller: Caller, id: str, name: str) -> dict:
    """Name, form, split, rows, bytes and sha256 of a data file. Raises a 404 for any other name."""
    # The name comes from the caller: only a name that the row lists may become a path in the storage.
    row = store.load_snapshot(session, caller.project_id, id)
    file = next((file for file in row.files or () if file["name"] == name), None)
    if file is None:
        raise not_found("file of the snapshot", name)
    return file


def cancel(session: Session, caller: Caller, id: str) -> Snapshot:
    """End the export and delete its files. A snapshot that has ended is returned unchanged."""
    store.load_snapshot(session, caller.project_id, id)
    return steering.cancel(session, KIND, id)
