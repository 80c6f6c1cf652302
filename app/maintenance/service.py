"""Creates and cancels maintenance jobs, and evaluation sets. The jobs are refilter, decontaminate and reencode."""

import hashlib
from collections.abc import Sequence

from sqlalchemy.orm import Session

from app import config
from app.access.service import Caller
from app.datasets import service as datasets
from app.datasets import store as dataset_store
from app.errors import conflict, invalid
from app.jobs import active_jobs, event_log, queue, steering
from app.maintenance import store
from app.maintenance.kinds import KINDS
from app.maintenance.schemas import DecontaminationCreate, ReencodeCreate, RefilterCreate
from app.persistence.ids import new_id
from app.runs import store as run_store
from app.tables.maintenance import EvaluationSet, MaintenanceJob


def refilter(session: Session, caller: Caller, run_id: str, body: RefilterCreate) -> MaintenanceJob:
    """Create the job that decides again on a run's candidates. Raises a 409 for a run that has not ended."""
    # A run that goes on adds candidates, and its counters would change under the job.
    run = run_store.run(session, caller.project_id, run_id)
    if not run.ended:
        raise conflict(f"The run is {run.status}; its candidates can be decided on again when it has ended.")
    return _create_job(session, caller, "refilter", run.dataset_id, body.model_dump(), run_id)


def decontaminate(session: Session, caller: Caller, dataset_id: str, body: DecontaminationCreate) -> MaintenanceJob:
    """Create the job that searches a dataset for evaluation items. Raises a 422 for an unknown set or no method."""
    dataset_store.dataset(session, caller.project_id, dataset_id)
    unknown = sorted(
        set(body.evaluation_sets) - store.find_existing_sets(session, caller.project_id, body.evaluation_sets)
    )
    if unknown:
        raise invalid("/evaluation_sets", f"no evaluation set {unknown[0]!r} in this project", "unknown")
    if body.ngram is None and body.semantic_threshold is None:
        raise invalid("/ngram", "the search has no method: give ngram, semantic_threshold, or both", "empty")
    return _create_job(session, caller, "decontamination", dataset_id, body.model_dump())


def reencode(session: Session, caller: Caller, dataset_id: str, body: ReencodeCreate) -> MaintenanceJob:
    """Create the job that encodes all rows anew. Raises a 409 while other jobs change the pool of the dataset."""
    dataset = dataset_store.dataset(session, caller.project_id, dataset_id)
    encoder = body.encoder or dataset.encoder
    datasets.check_encoder("/encoder", encoder)
    # Runs and imports take this lock before they are created, so none can start between the query and the commit.
    dataset_store.lock_dataset(session, dataset_id)
    active_ids = active_jobs.list_active_that_change_pool(session, dataset_id)
    if active_ids:
        names = ", ".join(active_ids[:3])
        raise conflict(f"Other jobs change the dataset: {names}. Cancel them or wait, then encode the dataset anew.")
    return _create_job(session, caller, "reencoding", dataset_id, {"encoder": encoder})


def _create_job(
    session: Session, caller: Caller, kind: str, dataset_id: str, settings: dict, run_id: str | None = None
) -> MaintenanceJob:
    row = MaintenanceJob(
        # From `review`, the former name of these jobs (docs/adr/0011): stored ids keep their prefix.
        id=new_id("rev"),
        project_id=caller.project_id,
        dataset_id=dataset_id,
        run_id=run_id,
        kind=kind,
        settings=settings,
        result={},
        rows=0,
        done_rows=0,
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    event_log.emit_status(session, row)
    queue.notify_after_commit(session, queue.MAINTENANCE, row.id)
    return row


def cancel(session: Session, caller: Caller, id: str) -> MaintenanceJob:
    """End the maintenance job soon; none of its changes stays. A job that has ended is returned unchanged."""
    row = store.load_maintenance_job(session, caller.project_id, id)
    return steering.cancel(session, KINDS[row.kind], id)


def create_set(session: Session, caller: Caller, name: str, texts: Sequence[str]) -> EvaluationSet:
    """Store the texts, in their order, as an evaluation set. Raises a 422 for a name in use or too many items."""
    if store.has_set_name(session, caller.project_id, name):
        raise invalid("name", f"the project has an evaluation set named {name!r} already; choose another name", "taken")
    max_rows = config.limits().import_rows
    if len(texts) > max_rows:
        raise invalid("body", f"the upload has {len(texts)} items, and the maximum is {max_rows}", "too_many")
    digest = hashlib.sha256("\x1e".join(texts).encode()).hexdigest()
    row = EvaluationSet(id=new_id("evs"), project_id=caller.project_id, name=name, rows=len(texts), digest=digest)
    session.add(row)
    # The items refer to the set, whose row must be in the database before theirs.
    session.flush()
    store.insert_items(session, row.id, texts)
    session.refresh(row)
    return row


def delete_set(session: Session, caller: Caller, id: str) -> None:
    """Delete the set with its items. Matches of earlier decontaminations stay, since each has a copy of the text."""
    session.delete(store.load_evaluation_set(session, caller.project_id, id))
