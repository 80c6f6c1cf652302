"""Snapshots: ordered, written once, then only read."""

import logging

from sqlalchemy.orm import Session

from app import storage
from app.access.service import Caller
from app.db import transaction
from app.errors import conflict, invalid, not_found
from app.ids import new_id
from app.jobs import event_log, queue
from app.jobs.leases import Claim, Heartbeat, LeaseLost, claim, fenced, heartbeat, release
from app.snapshots import choosing, export, store
from app.snapshots.schemas import SnapshotCreate
from app.synth.formats import needs_pairs
from app.tables.datasets import Dataset
from app.tables.snapshots import Snapshot

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 3
unfinished = store.unfinished


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
    queue.ring_after_commit(session, queue.SNAPSHOT, row.id)
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
        words = f"no row has the scores {' and '.join(needed)}; judge the rows first, or name scores that they have"
        raise invalid("/selection", words, "no_scores")


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


def write(id: str) -> None:
    """Write a snapshot that nobody else is writing. A second try writes the same bytes over the first."""
    taken = _claim(id)
    if taken is None:
        return
    with heartbeat(taken) as beat:
        try:
            _write(taken, beat)
        except LeaseLost:
            log.warning("%s has another owner now; this worker lets go", id)
        except Exception as error:
            log.exception("%s was not written", id)
            _failed(taken, error)


def _claim(id: str) -> Claim | None:
    with transaction() as session:
        row = store.claimable(session, id)
        if row is None:
            return None
        if row.attempt >= MOST_ATTEMPTS:
            release(row)
            row.move("failed", "export_failed", f"{row.attempt} workers were lost while writing; see their logs.")
        elif row.status == "queued":
            row.move("running")
        else:
            return claim(session, row)
        session.flush()
        event_log.emit_status(session, row)
        return None if row.ended else claim(session, row)


def _write(taken: Claim, beat: Heartbeat) -> None:
    with transaction() as session:
        # The splits are made in a first pass over the rows: the second must meet the same.
        store.freeze(session)
        snapshot = session.get(Snapshot, taken.id)
        dataset = session.get(Dataset, snapshot.dataset_id)
        session.expunge_all()
        written = export.write(session, snapshot, lambda rows: _progress(taken, beat, rows))
    content = export.manifest(snapshot, dataset, written)
    export.write_manifest(snapshot.id, content)
    with transaction() as session:
        row = fenced(session, taken)
        row.rows, row.splits, row.files = written.rows, dict(written.splits), written.files
        row.digest, row.simulated = written.digest, written.simulated > 0
        release(row)
        row.move("succeeded", "completed")
        session.flush()
        event_log.emit_status(session, row)


def _progress(taken: Claim, beat: Heartbeat, rows: int) -> None:
    if beat.lost.is_set():
        raise LeaseLost(taken.id)
    with transaction() as session:
        event_log.emit(session, fenced(session, taken), "progress", rows=rows)


def _failed(taken: Claim, error: Exception) -> None:
    """A disk that is full or read-only is said at once; other faults get three tries."""
    reason, words = explain(error)
    try:
        with transaction() as session:
            row = fenced(session, taken)
            release(row)
            if reason != "export_failed" or taken.attempt >= MOST_ATTEMPTS:
                row.move("failed", reason, words)
                session.flush()
                event_log.emit_status(session, row)
    except LeaseLost:
        log.warning("%s has another owner now; this worker lets go", taken.id)


def explain(error: Exception) -> tuple[str, str]:
    """(stop_reason, words) for a failed export. What the error says of paths and addresses stays in the log."""
    code = getattr(error, "errno", None)
    if code in storage.FULL:
        return "storage_full", "The storage is full. Make room, then order the snapshot again."
    if code in storage.UNWRITABLE:
        return "storage_unwritable", "The storage can't be written. Check the rights of SEEDBED_STORAGE_URL."
    return "export_failed", f"The export failed ({type(error).__name__}). The log of the worker says more."
