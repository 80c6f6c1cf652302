"""Progress of one stage: a live bar on a terminal, now and then a plain line everywhere else."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from app.client import Seedbed

PLAIN_SECONDS = 5.0
Update = Callable[[dict], None]


@contextmanager
def stage(
    title: str,
    measure: Callable[[dict], tuple[int, int | None, str]],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Update]:
    """Gives a function to call with each state of the job. `measure` reads (done, of how many, a note) from it."""

    def measure_or_queue(job: dict) -> tuple[int, int | None, str]:
        done, total, note = measure(job)
        return done, total, _queue_note(job) or note

    with _bar(title, measure_or_queue) if sys.stdout.isatty() else _lines(title, measure_or_queue, clock) as update:
        yield update


def _queue_note(job: dict) -> str:
    """Why a queued job waits, and its place in its queue."""
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
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns) as progress:
        task = progress.add_task(title, total=None, note="")

        def update(job: dict) -> None:
            done, total, note = measure(job)
            if job.get("status") == "succeeded":
                # What was wanted is reached, or passed by the last batch: the bar is full.
                total = done = max(done, 1)
            progress.update(task, completed=done, total=total, note=note)

        yield update


@contextmanager
def _lines(title: str, measure: Callable, clock: Callable[[], float]) -> Iterator[Update]:
    start = clock()
    last, due = "", start

    def update(job: dict) -> None:
        nonlocal last, due
        done, total, note = measure(job)
        count = f"{done}/{total}" if total else str(done or "")
        line = " ".join(f"{title}: {job.get('status', '')} {count} {note}".split())
        over = job.get("status") in ("succeeded", "failed", "cancelled")
        if line != last and (over or clock() >= due):
            print(f"[{clock() - start:5.1f} s] {line}", flush=True)
            last, due = line, clock() + PLAIN_SECONDS

    yield update


def of_run(run: dict) -> tuple[int, int | None, str]:
    counts, usage = run["counts"], run["usage"]
    note = f"{counts['rejected']} rejected, {usage['requests']} calls, ${usage['cost_usd'] or 0}"
    return counts["accepted"], run["target"], note


def of_import(job: dict) -> tuple[int, int | None, str]:
    return job["done_rows"], job["rows"], f"{job['accepted']} accepted, {job['rejected']} rejected"


def of_review(job: dict) -> tuple[int, int | None, str]:
    return job["done_rows"], job["rows"] or None, "rows"


def of_judgement(job: dict) -> tuple[int, int | None, str]:
    usage = job["usage"]
    return job["done_rows"], job["rows"], f"{usage['requests']} calls, ${usage['cost_usd'] or 0}"


def of_scoring(job: dict) -> tuple[int, int | None, str]:
    ifd = (job.get("summary") or {}).get("mean_ifd")
    return job["done_rows"], job["rows"], f"mean IFD {ifd:.3f}" if ifd is not None else "rows"


def of_snapshot(snapshot: dict) -> tuple[int, int | None, str]:
    return snapshot.get("rows") or 0, snapshot.get("rows"), "rows"


def of_fine_tune(job: dict, loss: float | None = None) -> tuple[int, int | None, str]:
    """Steps of the stage it is in; when it is over, the loss on unseen rows before and after."""
    if summary := job.get("summary"):
        steps = summary.get("steps") or 1
        return steps, steps, f"{summary['split']} loss {summary['loss_before']:.3f} → {summary['loss_after']:.3f}"
    note = (job.get("stage") or "").replace("_", " ")
    if loss is not None:
        note += f", loss {loss:.3f}"
    return job.get("step") or 0, job.get("total_steps"), note


def with_loss(client: Seedbed) -> Callable[[dict], tuple[int, int | None, str]]:
    """`of_fine_tune` with the newest loss beside the steps."""
    after: str | None = None

    def measure(job: dict) -> tuple[int, int | None, str]:
        nonlocal after
        rows, after = client.newest_metrics(job["id"], after)
        losses = [row["values"]["loss"] for row in rows if row["values"].get("loss") is not None]
        return of_fine_tune(job, losses[-1] if losses else None)

    return measure
