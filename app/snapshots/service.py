"""Snapshots: ordered, written once, then only read. The writing itself is in writing.py."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.access.service import Caller
from app.errors import conflict, invalid, not_found
from app.ids import new_id
from app.jobs import event_log, queue, steering
from app.snapshots import choosing, export, store
from app.snapshots.schemas import SnapshotCreate
from app.snapshots.writing import KIND
from app.synth.formats import needs_pairs
from app.tables.datasets import Dataset
from app.tables.snapshots import Snapshot


def create(session: Session, caller: Caller, body: SnapshotCreate) -> Snapshot:
    dataset = store.dataset_of(session, caller.project_id, body.dataset_id)
    if dataset is None:
        raise invalid("/dataset_id", f"no dataset {body.dataset_id!r} in this project", "unknown")
    if body.run_id is not None and not store.has_run(session, dataset.id, body.run_id):
        raise invalid("/run_id", f"no run {body.run_id!r} on this dataset", "unknown")
    spec = body.model_dump(mode="json", exclude={"dataset_id"})
    _enough(session, dataset, spec)
    row = Snapshot(
        id=new_id("snap"),
        project_id=caller.project_id,
        dataset_id=dataset.id,
        spec=spec,
        through_seq=dataset.last_seq,
        attempt=0,
        lease_token=0,
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    event_log.emit_status(session, row)
    queue.notify_after_commit(session, queue.SNAPSHOT, row.id)
    return row


def _enough(session: Session, dataset: Dataset, spec: dict) -> None:
    """There must be rows, pairs and scores for what was ordered. Raises a 422 that says what is missing."""
    rows = store.count_rows(session, dataset.id, spec, dataset.last_seq)
    if rows == 0:
        raise invalid("/dataset_id", "the dataset has no accepted rows for this snapshot yet", "empty")
    if needs_pairs(spec["forms"]) and store.count_pairs(session, dataset.id, spec, dataset.last_seq) == 0:
        words = "the rows have no preference pairs; runs of several answers, and evolutions, make them"
        raise invalid("/forms", words, "no_pairs")
    chosen = spec["selection"]
    if chosen is None:
        return
    if chosen["method"] == "facility_location" and rows > choosing.MOST_FOR_COVER:
        words = f"facility_location takes up to {choosing.MOST_FOR_COVER} rows, not {rows}; narrow the rows first"
        raise invalid("/selection/method", words, "too_many")
    needed = choosing.scores_needed(chosen)
    if needed and store.count_scored(session, dataset.id, spec, dataset.last_seq, needed) == 0:
        words = f"no row has the scores {' and '.join(needed)}; {_how_to_score(needed, dataset.id)}, or name others"
        raise invalid("/selection", words, "no_scores")


def _how_to_score(names: Sequence[str], dataset_id: str) -> str:
    if any(name.startswith("local.") for name in names):
        return f"score the rows first (POST /v1/scorings, or `seedbed scorings start {dataset_id}`)"
    return f"judge the rows first (POST /v1/judgements, or `seedbed judgements start {dataset_id}`)"


def manifest(session: Session, caller: Caller, id: str) -> dict:
    row = store.snapshot(session, caller.project_id, id)
    if row.status != "succeeded":
        raise conflict(f"The snapshot is {row.status}; its manifest comes when it has succeeded.")
    return export.read_manifest(id)


def file(session: Session, caller: Caller, id: str, name: str) -> dict:
    """One data file by its name in the row; nothing else is ever served."""
    row = store.snapshot(session, caller.project_id, id)
    found = next((one for one in row.files or () if one["name"] == name), None)
    if found is None:
        raise not_found("file of the snapshot", name)
    return found


def cancel(session: Session, caller: Caller, id: str) -> Snapshot:
    """End the export; no file of it stays. Cancelling what has ended changes nothing."""
    store.snapshot(session, caller.project_id, id)
    return steering.cancel(session, KIND, id)
