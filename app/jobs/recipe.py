"""Runs a recipe in a child process for a job: reads its events and its summary, and removes its working folder."""

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

# Between two events the job is checked, so that a cancel ends a child that prints nothing.
EVENT_WAIT_SECONDS = 0.5


def run(job: RunningJob, job_file: Path, recipe: str, handle_event: Callable[[dict], None]) -> dict:
    """Run `python -m recipe job_file` to its end. The child ends with the attempt, whatever ends that.

    Args:
        job: The attempt.
        job_file: The description of the recipe's job; its folder is the working directory.
        recipe: The module of the recipe.
        handle_event: Called with each event that the recipe prints.

    Returns:
        The summary of the recipe: the values of its event `done`.

    Raises:
        JobFailed: The recipe did not succeed, or its process was killed.
    """
    child = Child(job_file, recipe)
    try:
        return read_events_until_end(job, child, handle_event)
    finally:
        # Also after a lost lease: the next attempt of the job needs the memory and the GPU.
        child.end()


def read_events_until_end(job: RunningJob, child: Child, handle_event: Callable[[dict], None]) -> dict:
    """Handle the events of the child until it has ended, and return its summary. Raises what `run` raises."""
    summary, failure = None, None
    while (event := child.next_event(EVENT_WAIT_SECONDS)) is not None:
        job.check()
        if event:
            handle_event(event)
        if event.get("event") == "done":
            summary = {name: value for name, value in event.items() if name != "event"}
        if event.get("event") == "error":
            failure = JobFailed(str(event.get("kind", "training_failed")), str(event.get("message", "")))
    status = child.wait()
    # What the recipe itself reports says more than its exit status.
    if failure is not None:
        raise _with_stderr(job, failure, child)
    if status < 0:
        message = f"The training process was killed by signal {-status}. Usually the machine ran out of memory."
        raise JobFailed("child_killed", message)
    if status != 0 or summary is None:
        raise JobFailed(
            "training_failed",
            f"The training process ended with exit status {status}. The end of its stderr: {child.stderr_tail[-800:]}",
        )
    return summary


def _with_stderr(job: RunningJob, failure: JobFailed, child: Child) -> JobFailed:
    log.error("%s: %s\n%s", job.id, failure.message, child.stderr_tail)
    if failure.reason != "unexpected":
        return failure
    return JobFailed("training_failed", f"{failure.message} The end of its stderr: {child.stderr_tail[-800:]}")


def _work_root() -> Path:
    return Path(config.settings().home).resolve() / "work"


@contextmanager
def working_folder(job: RunningJob) -> Iterator[Path]:
    """Yield the path of the attempt's own folder, which the block makes; it is removed with the attempt.

    Folders that killed workers have left on this machine are removed first.
    """
    remove_folders(job.id)
    job.retry_until_database_is_back(_remove_folders_of_ended_jobs)
    # The token makes the name unique: a worker that lost its lease may still write into the folder of its attempt.
    folder = _work_root() / f"{job.id}-{job.claim.token}"
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_folders(id: str) -> None:
    """Remove the working folders of this job on this machine."""
    for folder in _work_root().glob(f"{id}-*"):
        shutil.rmtree(folder, ignore_errors=True)


def _remove_folders_of_ended_jobs() -> None:
    ids = {folder.name.rpartition("-")[0] for folder in _work_root().glob("*-*")}
    with transaction() as session:
        ids -= active_jobs.find_active(session, ids)
    for id in ids:
        remove_folders(id)
