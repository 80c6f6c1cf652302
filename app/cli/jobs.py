"""Waiting for a job at the command line, and ending with its outcome."""

from collections.abc import Callable, Iterable

import typer

from app.cli.progress import stage
from app.cli.session import Session


def finish(session: Session, job: dict, title: str, measure: Callable, fields: Iterable[str]) -> None:
    """Wait with a progress bar, print the job, and exit 1 unless it succeeded. Ctrl-C leaves the job running."""
    try:
        if session.json:
            job = session.client.wait(job)
        else:
            with stage(title, measure) as update:
                job = session.client.wait(job, update)
    except KeyboardInterrupt:
        print(f"\n{job['id']} goes on without this window.")
        raise typer.Exit(130) from None
    session.show(job, fields)
    if job["status"] != "succeeded":
        raise typer.Exit(1)


def show_or_wait(session: Session, job: dict, wait: bool, title: str, measure: Callable, fields: Iterable[str]) -> None:
    """Print a job that was just started, or wait for its end as `finish` does."""
    if wait:
        finish(session, job, title, measure, fields)
    else:
        session.show(job, fields)
