"""seedbed demo: seeds, a run, a snapshot, a fine-tune and the files, through the REST API alone."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from app.cli import progress
from app.cli.demo_report import print_report
from app.cli.demo_stages import DemoStages
from app.cli.runs import choose_teacher
from app.cli.session import DEFAULT_HOME, CommandError, HomeOption
from app.cli.up import ended_by_signals, local_stack
from app.client import Seedbed
from app.stack.state_dir import StateDir

BUNDLED = {"en": "english", "ko": "korean"}
FORMS = ["alpaca", "messages", "sharegpt"]
SPLITS = {"train": 0.9, "validation": 0.05, "test": 0.05}


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
    start = time.monotonic()
    with ended_by_signals(), running_stack(home) as (url, key), Seedbed(url, key) as client:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        stages = DemoStages(client, stamp, out / stamp)
        run_stages(stages, target, language, teacher)
        print_report(stages, time.monotonic() - start)


@contextmanager
def running_stack(home: Path) -> Iterator[tuple[str, str]]:
    """The stack that runs on the home, else one of its own that ends with the demo."""
    state, start = StateDir(home.resolve()).read_state(), time.monotonic()
    if state:
        print(f"Using the stack that runs at {state['url']}.", flush=True)
        yield state["url"], StateDir(home.resolve()).read_api_key()
        return
    print("Starting PostgreSQL, Redis, the API and the workers …", flush=True)
    with local_stack(home) as stack:
        print(f"Ready after {time.monotonic() - start:.1f} s: {stack.url}/docs", flush=True)
        yield stack.url, stack.api_key


def run_stages(stages: DemoStages, target: int, language: str, teacher: str | None) -> None:
    client = stages.client
    teacher = choose_teacher(client, teacher)
    dataset = client.create_dataset(f"demo {stages.stamp}", language, {"bundled": BUNDLED[language]})
    print(f"Dataset {dataset['name']!r} with {dataset['counts']['seeds']} seed tasks: {dataset['id']}", flush=True)
    run = {"dataset_id": dataset["id"], "teacher": teacher, "target": target}
    done = stages.run("run", "Self-Instruct", lambda: client.start_run(**run), progress.of_run)
    if done["counts"]["accepted"] != target:
        raise CommandError(f"{done['id']} ended by {done['stop_reason']}, with fewer records than {target}.")
    frozen = {"dataset_id": dataset["id"], "forms": FORMS, "splits": SPLITS}
    snapshot = stages.run("snapshot", "Snapshot", lambda: client.start_snapshot(**frozen), progress.of_snapshot)
    tune = {"snapshot_id": snapshot["id"], "base_model": "tiny", "method": "lora"}
    stages.run("fine-tune", "Fine-tune", lambda: client.start_fine_tune(**tune), progress.with_loss(client))
    stages.download()
