"""Writing a snapshot's files: a kind of job. A second attempt writes the same bytes over the first."""

from app import storage
from app.db import transaction
from app.jobs import queue
from app.jobs.kinds import Explanation, JobKind
from app.jobs.runner import RunningJob
from app.snapshots import export, store
from app.tables.datasets import Dataset
from app.tables.snapshots import Snapshot


def write(job: RunningJob) -> None:
    if job.claim.attempt > 1:
        # Parts that a killed attempt left.
        discard_files(job.id)
    with transaction() as session:
        # The splits are made in a first pass over the rows: the second must meet the same.
        store.freeze(session)
        snapshot = session.get(Snapshot, job.id)
        dataset = session.get(Dataset, snapshot.dataset_id)
        session.expunge_all()
        written = export.write(session, snapshot, lambda rows: _progress(job, rows), job.check)
    content = export.manifest(snapshot, dataset, written)
    export.write_manifest(snapshot.id, content)
    with job.transaction() as (session, row):
        row.rows, row.splits, row.files = written.rows, dict(written.splits), written.files
        row.digest, row.simulated = written.digest, written.simulated > 0
        job.succeed(session, row)


def _progress(job: RunningJob, rows: int) -> None:
    with job.transaction() as (session, row):
        job.progress(session, row, rows=rows)


def explain(error: Exception) -> Explanation:
    """What the error says of paths and addresses stays in the log."""
    code = getattr(error, "errno", None)
    if code in storage.FULL:
        message = "The storage is full. Make room, then order the snapshot again."
        return Explanation("storage_full", message, final=True)
    if code in storage.UNWRITABLE:
        message = "The storage can't be written. Check the rights of SEEDBED_STORAGE_URL."
        return Explanation("storage_unwritable", message, final=True)
    message = f"The export failed ({type(error).__name__}). The log of the worker says more."
    return Explanation("export_failed", message)


def discard_files(id: str) -> None:
    storage.delete(export.folder(id))


KIND = JobKind(
    name="snapshot",
    table=Snapshot,
    task=queue.SNAPSHOT,
    perform=write,
    explain=explain,
    max_attempts=3,
    discard_files=discard_files,
)
