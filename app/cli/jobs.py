"""Waits for a job at the command line, and sets the exit status from its outcome."""

from collections.abc import Callable, Iterable

import typer

from app.cli.progress import show_progress
from app.cli.session import Session

# More rows over the target than this share of all whole rows are worth a second look.
MAX_SPARE_SHARE = 0.05


def wait_for_end(session: Session, job: dict, title: str, measure: Callable, fields: Iterable[str]) -> None:
    """Wait for the end of a job with a progress bar, then print the job.

    Args:
        session: The options of the command.
        job: The job, as the client returned it.
        title: The title of the progress bar.
        measure: Returns (done, total, note) of a state of the job, as in `progress.show_progress`.
        fields: The fields to print.

    Raises:
        typer.Exit: With status 1 if the job did not succeed, 3 if a run ended with fewer rows than its target, 4 if it
            ended with none, 130 at Ctrl-C.
    """
    try:
        # With --json the output must be one JSON object, so there is no progress.
        if session.json:
            job = session.client.wait(job)
        else:
            with show_progress(title, measure) as update:
                job = session.client.wait(job, update)
    except KeyboardInterrupt:
        # The job runs in a worker. The user stops only the display, since a job may cost money to start again.
        print(f"\n{job['id']} continues to run. Cancel it with the command `cancel`.")
        raise typer.Exit(130) from None
    session.show(job, fields)
    if not session.json:
        print_outcome(job)
        print_spare_rows(job)
    # Scripts read the exit status: a run without all its rows is no success, whatever it cost.
    if exit_status := _exit_status(job):
        raise typer.Exit(exit_status)


def print_outcome(job: dict) -> None:
    """Print the last line of a run: what came, and why not more. Other jobs have no outcome and no such line."""
    if job["status"] == "paused":
        print(f"{job['id']} is paused: {job['health']['message']}")
        for sample in job["health"]["samples"]:
            print(f"  a reply: {sample!r}")
        print(f"Resume it with: seedbed runs resume {job['id']}")
    elif job.get("outcome") == "complete":
        print(f"{job['id']} is complete: {job['counts']['accepted']} rows.")
    elif job.get("outcome"):
        rows = f"{job['counts']['accepted']} of {job['target']} rows"
        print(f"{job['id']} is {job['outcome']}: {rows}; it ended because of {job['stop_reason']}.")


def print_spare_rows(job: dict) -> None:
    """Print how rows over the target can be had: they are whole, and paid for."""
    spare = job.get("counts", {}).get("rejected_by_reason", {}).get("over_target", 0)
    if spare and spare > MAX_SPARE_SHARE * (job["counts"]["accepted"] + spare):
        command = f"seedbed runs refilter {job['id']} --target {job['counts']['accepted'] + spare} --apply"
        print(f"{spare} more rows are whole and paid for. Take them in with: {command}")


def _exit_status(job: dict) -> int:
    """Return 0 for success, 1 for a failure, 3 for a run with fewer rows than its target, 4 for one with none."""
    if job["status"] != "succeeded":
        return 1
    return {"partial": 3, "empty": 4}.get(job.get("outcome") or "", 0)


def show_or_wait(session: Session, job: dict, wait: bool, title: str, measure: Callable, fields: Iterable[str]) -> None:
    """Print a new job, or wait for its end (`wait_for_end`) if `wait` is true."""
    if wait:
        wait_for_end(session, job, title, measure, fields)
    else:
        session.show(job, fields)
