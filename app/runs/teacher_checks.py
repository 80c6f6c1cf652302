"""Checks of teachers as jobs of the generation worker: ordered by a request, performed where a client is loaded."""

from collections.abc import Callable

from sqlalchemy import select
from sqlalchemy.orm import Session

from app import config
from app.access.service import Caller
from app.api.schemas import JobView
from app.errors import not_found
from app.jobs import event_log, queue
from app.jobs.kinds import Explanation, JobFailed, JobKind
from app.jobs.runner import RunningJob
from app.persistence.db import transaction
from app.persistence.ids import new_id
from app.runs import teachers
from app.tables.teachers import TeacherCheckJob


class TeacherCheckView(JobView):
    """A check. `profile`: what it has learnt, with its calls as evidence; {} until it has ended."""

    teacher: str
    profile: dict


def create_check(session: Session, caller: Caller, name: str) -> TeacherCheckJob:
    """Create the job that checks a teacher. Raises a 404 if no such teacher is configured."""
    if name not in config.teachers():
        raise not_found("teacher", name)
    row = TeacherCheckJob(id=new_id("chk"), project_id=caller.project_id, teacher=name, profile={})
    session.add(row)
    session.flush()
    session.refresh(row)
    event_log.emit_status(session, row)
    queue.notify_after_commit(session, queue.TEACHER_CHECK, row.id)
    return row


def load_check(session: Session, project_id: str, id: str) -> TeacherCheckJob:
    """Return the project's check with this id. Raises a 404 where there is none."""
    query = select(TeacherCheckJob).where(TeacherCheckJob.id == id, TeacherCheckJob.project_id == project_id)
    row = session.scalar(query)
    if row is None:
        raise not_found("teacher check", id)
    return row


def view(row: TeacherCheckJob) -> TeacherCheckView:
    """Return the answer to a request for the check."""
    return TeacherCheckView.model_validate(row)


def _perform(job: RunningJob, check: Callable[[str], dict]) -> None:
    """Make the calls outside of any transaction, and store the profile, also as the teacher's own.

    Args:
        job: The attempt.
        check: Checks the teacher of this name, and returns its profile as JSON values.

    Raises:
        JobFailed: The configuration has no such teacher, or no form of reply worked.
    """
    with transaction() as session:
        name = session.get(TeacherCheckJob, job.id).teacher
    configured = config.teachers().get(name)
    if configured is None:
        raise JobFailed("teacher_unknown", f"this worker's configuration has no teacher {name!r}; configure it again")
    profile = check(name)
    with job.transaction() as (session, row):
        row.profile = profile
        if profile["replies"] is not None:
            teachers.store_check(session, configured, profile["replies"], profile)
            job.succeed(session, row)
    if profile["replies"] is None:
        last = profile["evidence"][-1]["received"] if profile["evidence"] else "no call was made"
        raise JobFailed("no_reply_form", f"no form of reply worked with the teacher {name!r}; last: {last}")


def _explain(error: Exception) -> Explanation:
    return Explanation("teacher_check_failed", f"{type(error).__name__}: {error}"[:1000])


KIND = JobKind(
    name="teacher_check",
    table=TeacherCheckJob,
    task=queue.TEACHER_CHECK,
    perform=_perform,
    explain=_explain,
    max_attempts=2,
)
