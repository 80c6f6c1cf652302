"""The three kinds of maintenance jobs, which share one table and one task."""

from sqlalchemy.orm import Session

from app.datasets.pools import EncoderMismatch
from app.jobs import queue
from app.jobs.kinds import Explanation, JobKind
from app.maintenance import store
from app.maintenance.decontaminate import decontaminate
from app.maintenance.reencode import reencode
from app.maintenance.refilter import refilter
from app.tables.maintenance import MaintenanceJob

MAX_ATTEMPTS = 5


def explain(error: Exception) -> Explanation:
    """Return the stop_reason and the message of a maintenance job that has failed with this error."""
    if isinstance(error, EncoderMismatch):
        # Final: another attempt would load the same encoder.
        return Explanation("encoder_mismatch", str(error), final=True)
    return Explanation("maintenance_failed", f"{type(error).__name__}: {error}")


def _reset_progress(session: Session, row: MaintenanceJob) -> None:
    row.done_rows = 0


def _delete_matches(session: Session, row: MaintenanceJob) -> None:
    row.done_rows = 0
    store.delete_matches(session, row.id)


def _delete_new_embeddings(session: Session, row: MaintenanceJob) -> None:
    row.done_rows = 0
    store.delete_new_embeddings(session, row.id)


# No discard: a refilter writes its decisions in one transaction, so an attempt that failed has written none.
REFILTER = JobKind(
    name="refilter",
    table=MaintenanceJob,
    task=queue.MAINTENANCE,
    perform=refilter,
    explain=explain,
    max_attempts=MAX_ATTEMPTS,
    reset=_reset_progress,
    only=MaintenanceJob.kind == "refilter",
)
# Matches are stored batch by batch, so a new attempt and a cancel delete them.
DECONTAMINATION = JobKind(
    name="decontamination",
    table=MaintenanceJob,
    task=queue.MAINTENANCE,
    perform=decontaminate,
    explain=explain,
    max_attempts=MAX_ATTEMPTS,
    reset=_delete_matches,
    discard=_delete_matches,
    only=MaintenanceJob.kind == "decontamination",
)
# No reset: a new attempt continues after the last row that the previous attempt encoded.
REENCODING = JobKind(
    name="reencoding",
    table=MaintenanceJob,
    task=queue.MAINTENANCE,
    perform=reencode,
    explain=explain,
    max_attempts=MAX_ATTEMPTS,
    discard=_delete_new_embeddings,
    only=MaintenanceJob.kind == "reencoding",
)
KINDS = {kind.name: kind for kind in (REFILTER, DECONTAMINATION, REENCODING)}
