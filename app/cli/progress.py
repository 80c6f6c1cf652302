"""Shows the progress of a job: a live bar on a terminal, a plain line every few seconds in a pipe or a file.

A `measure_*` function reads (done, total, note) from a job: the number of finished units, the number of all units or
None if it is unknown, and a short text.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from app.client import Seedbed

# The least seconds between two plain lines.
PLAIN_SECONDS = 5.0
Measurement = tuple[int, int | None, str]
Update = Callable[[dict], None]


@contextmanager
def show_progress(
    title: str,
    measure: Callable[[dict], Measurement],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Update]:
    """Yield a function that shows one state of a job; call it with each new state.

    Args:
        title: The name of the stage.
        measure: Returns (done, total, note) of a state of the job.
        clock: Returns seconds, as time.monotonic does.
    """

    def measure_or_queue(job: dict) -> Measurement:
        done, total, note = measure(job)
        # While a job waits it has no progress, and the reason for the wait is more useful.
        return done, total, _queue_note(job) or note

    with _bar(title, measure_or_queue) if sys.stdout.isatty() else _lines(title, measure_or_queue, clock) as update:
        yield update


def _queue_note(job: dict) -> str:
    """Return why a queued job waits, and its position in its queue; empty for any other job."""
    queue = job.get("queue")
    return f"{queue['position']} in the queue {queue['name']}. {queue['message']}" if queue else ""


@contextmanager
def _bar(title: str, measure: Callable) -> Iterator[Update]:
    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description:<16}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        # A note may contain brackets, which Rich would read as markup.
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns) as progress:
        task = progress.add_task(title, total=None, note="")

        def update(job: dict) -> None:
            done, total, note = measure(job)
            if job.get("status") == "succeeded":
                # The last batch may have exceeded the total, and a bar at 103 % would look like a fault.
                total = done = max(done, 1)
            progress.update(task, completed=done, total=total, note=note)

        yield update


@contextmanager
def _lines(title: str, measure: Callable, clock: Callable[[], float]) -> Iterator[Update]:
    start = clock()
    last_line, due = "", start

    def update(job: dict) -> None:
        nonlocal last_line, due
        done, total, note = measure(job)
        count = f"{done}/{total}" if total else str(done or "")
        line = " ".join(f"{title}: {job.get('status', '')} {count} {note}".split())
        has_ended = job.get("status") in ("succeeded", "failed", "cancelled")
        # A line for every poll would fill a log. The last line is never left out.
        if line != last_line and (has_ended or clock() >= due):
            print(f"[{clock() - start:5.1f} s] {line}", flush=True)
            last_line, due = line, clock() + PLAIN_SECONDS

    yield update


def measure_run(run: dict) -> Measurement:
    """Return the accepted rows of a run, with its rejected rows, calls and cost as the note."""
    counts, usage = run["counts"], run["usage"]
    note = f"{counts['rejected']} rejected, {usage['requests']} calls, ${usage['cost_usd'] or 0}"
    return counts["accepted"], run["target"], note


def measure_import(job: dict) -> Measurement:
    """Return the rows of an import that are decided on."""
    return job["done_rows"], job["rows"], f"{job['accepted']} accepted, {job['rejected']} rejected"


def measure_maintenance_job(job: dict) -> Measurement:
    """Return the rows that a maintenance job has finished. Before it has counted its rows their number is 0."""
    return job["done_rows"], job["rows"] or None, "rows"


def measure_judgement(job: dict) -> Measurement:
    """Return the judged rows, with the calls and the cost as the note."""
    usage = job["usage"]
    return job["done_rows"], job["rows"], f"{usage['requests']} calls, ${usage['cost_usd'] or 0}"


def measure_likelihood_scores(job: dict) -> Measurement:
    """Return the scored rows, with the mean IFD as the note once it is known."""
    ifd = (job.get("summary") or {}).get("mean_ifd")
    return job["done_rows"], job["rows"], f"mean IFD {ifd:.3f}" if ifd is not None else "rows"


def measure_snapshot(snapshot: dict) -> Measurement:
    """Return the rows of a snapshot. They are known only at its end, so there is no partial progress."""
    return snapshot.get("rows") or 0, snapshot.get("rows"), "rows"


def measure_fine_tune(job: dict, loss: float | None = None) -> Measurement:
    """Return the steps of the current stage; at the end, the held-out loss before and after training as the note."""
    if summary := job.get("summary"):
        steps = summary.get("steps") or 1
        return steps, steps, f"{summary['split']} loss {summary['loss_before']:.3f} → {summary['loss_after']:.3f}"
    note = (job.get("stage") or "").replace("_", " ")
    if loss is not None:
        note += f", loss {loss:.3f}"
    return job.get("step") or 0, job.get("total_steps"), note


def measure_with_loss(client: Seedbed) -> Callable[[dict], Measurement]:
    """Return `measure_fine_tune` with the newest training loss in the note. Each measurement makes one request."""
    after: str | None = None

    def measure(job: dict) -> Measurement:
        # Only rows after the last measurement are requested: a long training has thousands of them.
        nonlocal after
        rows, after = client.newest_metrics(job["id"], after)
        losses = [row["values"]["loss"] for row in rows if row["values"].get("loss") is not None]
        return measure_fine_tune(job, losses[-1] if losses else None)

    return measure
