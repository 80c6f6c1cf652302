"""How an attempt at a judgement ends: the judgement is done, or it is paused."""

from dataclasses import dataclass

from sqlalchemy import func
from sqlalchemy.orm import Session

from app import config
from app.calls import ledger
from app.calls import store as accounts_store
from app.datasets import store as dataset_store
from app.datasets.decisions import NewDecision
from app.jobs import event_log
from app.jobs.kinds import JobFailed
from app.jobs.leases import release_lease, seconds_from_now
from app.jobs.outcomes import change_status
from app.jobs.runner import RunningJob, WorkerStopping
from app.judgements import store
from app.persistence.db import transaction
from app.runs import decisions
from app.synth.types import Rejection
from app.tables.judgements import JudgedRow, Judgement

TEACHER_UNAVAILABLE = "teacher_unavailable"


@dataclass(frozen=True)
class Stop:
    """Why no further record is judged.

    Attributes:
        reason: the stop_reason of the judgement, or why it waits.
        message: a message for the user.
        wait_seconds: until a teacher that is away is called again.
    """

    reason: str
    message: str = ""
    wait_seconds: float = 0.0


PAUSED = Stop("paused")
COMPLETED = Stop("completed")


def end(job: RunningJob, judgement: Judgement, stop: Stop) -> None:
    """Pause the judgement, or end it with the reason of the stop.

    Args:
        job: the claimed judgement.
        judgement: its row as the attempt has read it.
        stop: why no further record is judged.

    Raises:
        WorkerStopping: The judgement was resumed meanwhile, so another attempt continues.
        JobFailed: The teacher was away for too long.
    """
    if stop is PAUSED:
        _pause(job)
    elif stop.reason == TEACHER_UNAVAILABLE:
        _pause_for_teacher(job, stop)
    else:
        _succeed(job, judgement, stop.reason)


def _pause(job: RunningJob) -> None:
    with job.transaction() as (session, row):
        if row.status == "pausing":
            _move_to_paused(session, row)
            return
    # It was resumed while its calls in flight ended, so a new attempt continues.
    raise WorkerStopping(job.id)


def _pause_for_teacher(job: RunningJob, stop: Stop) -> None:
    """Pause the judgement until the teacher is called again. If the teacher was away for too long, fail it."""
    with job.transaction() as (session, row):
        # Otherwise a user is pausing it, and then it waits for the user and not for the teacher.
        if row.status == "running":
            if row.teacher_gone_since is None:
                row.teacher_gone_since = func.clock_timestamp()
                session.flush()
                session.refresh(row)
            if store.seconds_since(session, row.teacher_gone_since) > config.settings().teacher_gone_seconds:
                message = f"the teacher was away for too long. Its last error: {stop.message}"
                raise JobFailed(TEACHER_UNAVAILABLE, message)
            row.paused_for, row.resume_at = TEACHER_UNAVAILABLE, seconds_from_now(max(1.0, stop.wait_seconds))
            change_status(session, row, "pausing")
            waits = {"reason": TEACHER_UNAVAILABLE, "message": stop.message, "seconds": round(stop.wait_seconds, 1)}
            event_log.emit(session, row, "waiting", **waits)
        _move_to_paused(session, row)


def _move_to_paused(session: Session, row: Judgement) -> None:
    """Pause the judgement. Its attempts start from 0 again, since nothing went wrong."""
    release_lease(row)
    row.attempt = 0
    accounts_store.set_state(session, row.account_id, "stopped")
    change_status(session, row, "paused")


def _succeed(job: RunningJob, judgement: Judgement, reason: str) -> None:
    """Close the account and end the judgement; before, reject rows under the thresholds if the user requested that."""
    with transaction() as session:
        # The dataset before the job: all transactions take the locks in this order (docs/adr/0019).
        dataset = dataset_store.lock_dataset(session, judgement.dataset_id) if judgement.reject else None
        row = job.fence(session)
        if dataset is not None:
            # All at once: new decisions count the dataset's rows anew under its lock (docs/adr/0021).
            judged_rows = store.list_rows_under_thresholds(session, row.id)
            rejections = [NewDecision(judged.record_id, _rejection_of(judged)) for judged in judged_rows]
            decisions.apply(session, dataset, rejections, row.id, job.check)
            row.rejected += len(rejections)
        ledger.close_account(session, row.account_id)
        release_lease(row)
        change_status(session, row, "succeeded", reason)


def _rejection_of(judged: JudgedRow) -> Rejection:
    detail = judged.detail or {}
    return Rejection(judged.outcome, detail.get("value"), detail.get("threshold"))
