"""Judgements as a kind of job.

The worker brings the function that judges: it needs the teachers' client, which the API process never loads.
"""

from collections.abc import Callable

from sqlalchemy.orm import Session

from app.calls import ledger
from app.jobs import queue
from app.jobs.kinds import Explanation, JobKind
from app.jobs.runner import RunningJob
from app.tables.judgements import Judgement


def _perform(job: RunningJob, judge: Callable[[RunningJob], None]) -> None:
    judge(job)


def _explain(error: Exception) -> Explanation:
    return Explanation("judgement_failed", f"{type(error).__name__}: {error}"[:1000])


def _close_account(session: Session, row: Judgement) -> None:
    ledger.close_account(session, row.account_id)


# No reset: verdicts are stored as they come, and a new attempt leaves out the records that have one.
KIND = JobKind(
    name="judgement",
    table=Judgement,
    task=queue.JUDGEMENT,
    perform=_perform,
    explain=_explain,
    max_attempts=5,
    discard=_close_account,
)
