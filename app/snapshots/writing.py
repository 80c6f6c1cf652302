"""The job that writes the files of a snapshot. A second attempt writes the same bytes as the first."""

from app.datasets import store as dataset_store
from app.jobs import queue
from app.jobs.kinds import Explanation, JobKind
from app.jobs.runner import RunningJob
from app.persistence import files
from app.persistence.db import transaction
from app.snapshots import export, store
from app.tables.snapshots import Snapshot


def write(job: RunningJob) -> None:
    """Write the data files and the manifest of the claimed snapshot, and end its row as succeeded.

    Args:
        job: the claimed snapshot.
    """
    if job.claim.attempt > 1:
        # An attempt that was killed may have left incomplete files.
        discard_files(job.id)
    with transaction() as session:
        # The rows are read twice, for the splits and for the files. Both passes must see the same rows.
        store.freeze_pool(session)
        snapshot = session.get(Snapshot, job.id)
        dataset = dataset_store.load_dataset(session, snapshot.dataset_id)
        # The two rows are read after this transaction, when the session that loaded them is closed.
        session.expunge_all()
        result = export.write(session, snapshot, lambda rows: _report_progress(job, rows), job.check)
    # After all data files: a manifest never names a file that is not complete.
    export.write_manifest(snapshot.id, export.build_manifest(snapshot, dataset, result))
    with job.transaction() as (session, row):
        row.rows, row.splits, row.files = result.rows, dict(result.splits), result.files
        row.digest, row.simulated = result.digest, result.simulated > 0
        job.succeed(session, row)


def _report_progress(job: RunningJob, rows: int) -> None:
    with job.transaction() as (session, row):
        job.progress(session, row, rows=rows)


def explain(error: Exception) -> Explanation:
    """Return the stop_reason and the message for an exception that the export raised.

    Args:
        error: the exception. A full or read-only storage is final: another attempt would meet the same storage.
    """
    # The text of an exception may name paths and addresses of this installation; callers see only its type.
    code = getattr(error, "errno", None)
    if code in files.FULL:
        message = "The storage is full. Free some space, then create the snapshot again."
        return Explanation("storage_full", message, final=True)
    if code in files.UNWRITABLE:
        message = "The storage can't be written. Check the rights of SEEDBED_STORAGE_URL."
        return Explanation("storage_unwritable", message, final=True)
    message = f"The export failed ({type(error).__name__}). The log of the worker says more."
    return Explanation("export_failed", message)


def discard_files(id: str) -> None:
    """Delete every file of the snapshot, complete or not. A snapshot without files is no error."""
    files.delete(export.folder_path(id))


# No reset: a new attempt deletes the files of an earlier one before it writes.
KIND = JobKind(
    name="snapshot",
    table=Snapshot,
    task=queue.SNAPSHOT,
    perform=write,
    explain=explain,
    max_attempts=3,
    discard_files=discard_files,
)
