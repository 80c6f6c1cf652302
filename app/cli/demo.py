"""seedbed demo: seeds, a run, a snapshot, a fine-tune and the files, through the REST API alone."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import progress
from app.cli.runs import choose_teacher
from app.cli.session import DEFAULT_HOME, CommandError, HomeOption

if TYPE_CHECKING:
    from app.client import Seedbed

BUNDLED = {"en": "english", "ko": "korean"}
FORMS = ["alpaca", "messages", "sharegpt"]
CANCEL_SECONDS = 4
SPLITS = {"train": 0.9, "validation": 0.05, "test": 0.05}


@dataclass
class Demo:
    """One walk through the service. `jobs` holds each stage's last state, `seconds` what it took."""

    client: "Seedbed"
    stamp: str
    out: Path
    jobs: dict[str, dict] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    files: list[tuple[str, Path]] = field(default_factory=list)

    def stage(self, name: str, title: str, begin: Callable[[], dict], measure: Callable) -> dict:
        """Start a job and follow it to its end. One that did not succeed ends the demo; Ctrl-C cancels it."""
        start = time.monotonic()
        job = begin()
        try:
            with progress.stage(title, measure) as update:
                job = self.client.wait(job, update)
        except KeyboardInterrupt:
            self.cancel(job)
            raise
        self.jobs[name], self.seconds[name] = job, time.monotonic() - start
        if job["status"] != "succeeded":
            why = job.get("error") or job.get("stop_reason")
            raise CommandError(f"{title} ended {job['status']}: {why} ({job['id']})")
        return job

    def cancel(self, job: dict) -> None:
        from app.client import SeedbedError

        try:
            job = self.client.act(job["id"], "cancel")
            # What is in flight needs a moment; the stack ends after it.
            until = time.monotonic() + CANCEL_SECONDS
            while job["status"] == "cancelling" and time.monotonic() < until:
                time.sleep(0.2)
                job = self.client.get(job["id"])
            print(f"\n{job['id']} is {job['status']}.", flush=True)
        except SeedbedError as error:
            print(f"\n{job['id']} could not be cancelled: {error}", flush=True)


def demo(
    target: Annotated[int, typer.Option(min=1, help="Accepted records to grow.")] = 200,
    out: Annotated[Path, typer.Option(help="Where the files go, in a folder of their own.")] = Path("demo-output"),
    language: Annotated[str, typer.Option(help="en or ko")] = "en",
    teacher: Annotated[str | None, typer.Option(help="A name from `seedbed teachers list`, if several.")] = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Walk the whole way once: seeds, a Self-Instruct run, a snapshot, a LoRA fine-tune, the files."""
    if language not in BUNDLED:
        raise CommandError(f"There are no bundled seeds for {language!r}; choose {' or '.join(BUNDLED)}.")
    from app.cli.up import ended_by_signals
    from app.client import Seedbed

    began = time.monotonic()
    with ended_by_signals(), running_stack(home) as (url, key), Seedbed(url, key) as client:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        walk = Demo(client, stamp, out / stamp)
        follow(walk, target, language, teacher)
        from app.cli.report import report

        report(walk, time.monotonic() - began)


@contextmanager
def running_stack(home: Path) -> Iterator[tuple[str, str]]:
    """The stack that runs on the home, else one of its own that ends with the demo."""
    from app.cli.up import local_stack
    from app.stack.home import Home

    state, began = Home(home.resolve()).read_state(), time.monotonic()
    if state:
        print(f"Using the stack that runs at {state['url']}.", flush=True)
        yield state["url"], Home(home.resolve()).read_key()
        return
    print("Starting PostgreSQL, Redis, the API and the workers …", flush=True)
    with local_stack(home) as stack:
        print(f"Ready after {time.monotonic() - began:.1f} s: {stack.url}/docs", flush=True)
        yield stack.url, stack.api_key


def follow(walk: Demo, target: int, language: str, teacher: str | None) -> None:
    client = walk.client
    teacher = choose_teacher(client, teacher)
    dataset = client.create_dataset(f"demo {walk.stamp}", language, {"bundled": BUNDLED[language]})
    print(f"Dataset {dataset['name']!r} with {dataset['counts']['seeds']} seed tasks: {dataset['id']}", flush=True)
    run = {"dataset_id": dataset["id"], "teacher": teacher, "target": target}
    done = walk.stage("run", "Self-Instruct", lambda: client.start_run(**run), progress.of_run)
    if done["counts"]["accepted"] != target:
        raise CommandError(f"{done['id']} ended by {done['stop_reason']}, with fewer records than {target}.")
    frozen = {"dataset_id": dataset["id"], "forms": FORMS, "splits": SPLITS}
    snapshot = walk.stage("snapshot", "Snapshot", lambda: client.start_snapshot(**frozen), progress.of_snapshot)
    tune = {"snapshot_id": snapshot["id"], "base_model": "tiny", "method": "lora"}
    walk.stage("fine-tune", "Fine-tune", lambda: client.start_fine_tune(**tune), progress.with_loss(client))
    download(walk)


def download(walk: Demo) -> None:
    """Fetch every file and read it back: rows counted and parsed, the adapter's header opened."""
    from app.cli.readback import read_back

    start = time.monotonic()
    for name in ("snapshot", "fine-tune"):
        for file, path in walk.client.download_all(walk.jobs[name], walk.out / name):
            walk.files.append((read_back(path, file.get("rows")), path))
    if not any(path.name.endswith(".safetensors") for _, path in walk.files):
        raise CommandError(f"{walk.jobs['fine-tune']['id']} left no adapter.")
    walk.seconds["download"] = time.monotonic() - start
