"""A recipe in a child process, for the job that it is run for: its events, its summary, its end, its folder."""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app import config
from app.jobs import active_jobs
from app.jobs.child import Child
from app.jobs.kinds import JobFailed
from app.jobs.runner import RunningJob
from app.persistence.db import transaction

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5


def run(job: RunningJob, job_file: Path, recipe: str, keep: Callable[[dict], None]) -> dict:
    """Run `python -m recipe job_file`, and hand its events to `keep`; the recipe's summary.

    The child is ended with the attempt, whatever ends it. Raises JobFailed when the recipe did not succeed.
    """
    child = Child(job_file, recipe)
    try:
        return follow_to_end(job, child, keep)
    finally:
        child.end()


def follow_to_end(job: RunningJob, child: Child, keep: Callable[[dict], None]) -> dict:
    summary, failure = None, None
    while (event := child.next_event(LOOK_SECONDS)) is not None:
        job.check()
        if event:
            keep(event)
        if event.get("event") == "done":
            summary = {name: value for name, value in event.items() if name != "event"}
        if event.get("event") == "error":
            failure = JobFailed(str(event.get("kind", "training_failed")), str(event.get("message", "")))
    status = child.wait()
    if failure is not None:
        raise _with_last_words(job, failure, child)
    if status < 0:
        message = f"The training process was killed by signal {-status}; most often the machine ran out of memory."
        raise JobFailed("child_killed", message)
    if status != 0 or summary is None:
        raise JobFailed("training_failed", f"The training process ended with {status}: {child.last_words[-800:]}")
    return summary


def _with_last_words(job: RunningJob, failure: JobFailed, child: Child) -> JobFailed:
    log.error("%s: %s\n%s", job.id, failure.message, child.last_words)
    if failure.reason != "unexpected":
        return failure
    return JobFailed("training_failed", f"{failure.message} Its last words: {child.last_words[-800:]}")


def _work() -> Path:
    return Path(config.settings().home).resolve() / "work"


@contextmanager
def working_folder(job: RunningJob) -> Iterator[Path]:
    """The attempt's own folder. It goes with the attempt; what killed workers left on this machine goes first."""
    remove_folders(job.id)
    job.retry_until_database_is_back(_remove_folders_of_ended_jobs)
    folder = _work() / f"{job.id}-{job.claim.token}"
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_folders(id: str) -> None:
    """Working folders of this job on this machine."""
    for folder in _work().glob(f"{id}-*"):
        shutil.rmtree(folder, ignore_errors=True)


def _remove_folders_of_ended_jobs() -> None:
    ids = {folder.name.rpartition("-")[0] for folder in _work().glob("*-*")}
    with transaction() as session:
        ids -= active_jobs.find_active(session, ids)
    for id in ids:
        remove_folders(id)
