"""Waits for a job at the command line, and sets the exit status from its outcome."""

from collections.abc import Callable, Iterable

import typer

from app.cli.progress import show_progress
from app.cli.session import Session


def wait_for_end(session: Session, job: dict, title: str, measure: Callable, fields: Iterable[str]) -> None:
    """Wait for the end of a job with a progress bar, then print the job.

    Args:
        session: The options of the command.
        job: The job, as the client returned it.
        title: The title of the progress bar.
        measure: Returns (done, total, note) of a state of the job, as in `progress.show_progress`.
        fields: The fields to print.

    Raises:
        typer.Exit: With status 1 if the job did not succeed, 130 at Ctrl-C.
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
    # Scripts read the exit status: a job that ended at a ceiling has succeeded, a cancelled job has not.
    if job["status"] != "succeeded":
        raise typer.Exit(1)


def show_or_wait(session: Session, job: dict, wait: bool, title: str, measure: Callable, fields: Iterable[str]) -> None:
    """Print a new job, or wait for its end (`wait_for_end`) if `wait` is true."""
    if wait:
        wait_for_end(session, job, title, measure, fields)
    else:
        session.show(job, fields)
