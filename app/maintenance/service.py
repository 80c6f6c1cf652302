"""Orders and cancels maintenance jobs. Their work is in refilter, decontaminate and reencode."""

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
    """Order that a run's candidates be decided on again. Only a run that has ended stands still for it."""
    run = run_store.run(session, caller.project_id, run_id)
    if not run.ended:
        raise conflict(f"The run is {run.status}; its decisions can be looked at again when it has ended.")
    return _order(session, caller, "refilter", run.dataset_id, body.model_dump(), run_id)


def decontaminate(session: Session, caller: Caller, dataset_id: str, body: DecontaminationCreate) -> MaintenanceJob:
    dataset_store.dataset(session, caller.project_id, dataset_id)
    unknown = sorted(
        set(body.evaluation_sets) - store.find_existing_sets(session, caller.project_id, body.evaluation_sets)
    )
    if unknown:
        raise invalid("/evaluation_sets", f"no evaluation set {unknown[0]!r} in this project", "unknown")
    if body.ngram is None and body.semantic_threshold is None:
        raise invalid("/ngram", "nothing to look for: give ngram, semantic_threshold, or both", "empty")
    return _order(session, caller, "decontamination", dataset_id, body.model_dump())


def reencode(session: Session, caller: Caller, dataset_id: str, body: ReencodeCreate) -> MaintenanceJob:
    """Order that all rows be encoded anew. Nothing else may work on the dataset meanwhile."""
    dataset = dataset_store.dataset(session, caller.project_id, dataset_id)
    encoder = body.encoder or dataset.encoder
    datasets.check_encoder("/encoder", encoder)
    dataset_store.lock_dataset(session, dataset_id)
    active_ids = active_jobs.list_active_that_change_pool(session, dataset_id)
    if active_ids:
        raise conflict(f"{', '.join(active_ids[:3])} at work on the dataset; cancel them or wait, then encode it anew.")
    return _order(session, caller, "reencoding", dataset_id, {"encoder": encoder})


def _order(
    session: Session, caller: Caller, kind: str, dataset_id: str, settings: dict, run_id: str | None = None
) -> MaintenanceJob:
    row = MaintenanceJob(
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
    """End the maintenance job soon: nothing of it stays. Cancelling what has ended changes nothing."""
    row = store.maintenance_job(session, caller.project_id, id)
    return steering.cancel(session, KINDS[row.kind], id)


def add_set(session: Session, caller: Caller, name: str, texts: Sequence[str]) -> EvaluationSet:
    if store.set_name_exists(session, caller.project_id, name):
        raise invalid("name", f"there is an evaluation set named {name!r} already; take another name", "taken")
    max_rows = config.limits().import_rows
    if len(texts) > max_rows:
        raise invalid("body", f"{len(texts)} rows; at most {max_rows} are taken", "too_many")
    digest = hashlib.sha256("\x1e".join(texts).encode()).hexdigest()
    row = EvaluationSet(id=new_id("evs"), project_id=caller.project_id, name=name, rows=len(texts), digest=digest)
    session.add(row)
    session.flush()
    store.insert_items(session, row.id, texts)
    session.refresh(row)
    return row


def delete_set(session: Session, caller: Caller, id: str) -> None:
    """What it has found stays with the maintenance jobs."""
    session.delete(store.evaluation_set(session, caller.project_id, id))
