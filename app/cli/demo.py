"""seedbed demo: a dataset, a run, a snapshot, a fine-tune and their files, all through the REST API."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from app import config
from app.cli import progress
from app.cli.demo_report import print_report
from app.cli.demo_stages import DemoStages
from app.cli.runs import choose_teacher
from app.cli.session import DEFAULT_STATE_DIR, CommandError, StateDirOption
from app.cli.up import interrupt_on_signals, local_stack
from app.client import Seedbed
from app.stack.state_dir import StateDir
from app.stack.teacher import LOCAL_NAME, names_no_teacher, write_local_config

# The bundled seed sets, by language.
BUNDLED = {"en": "english", "ko": "korean"}
FORMS = ["alpaca", "messages", "sharegpt"]
SPLITS = {"train": 0.9, "validation": 0.05, "test": 0.05}
# A small model writes until it reaches a limit, and slowly; short replies give it more attempts in the same time.
LOCAL_OPTIONS = {"instructions_per_call": 4, "instruction_tokens": 192, "instance_tokens": 96}


def demo(
    target: Annotated[int, typer.Option(min=1, help="How many accepted records to generate.")] = 200,
    out: Annotated[Path, typer.Option(help="The files are saved in a new folder below this one.")] = Path(
        "demo-output"
    ),
    language: Annotated[str, typer.Option(help="The language of the seeds: en or ko.")] = "en",
    teacher: Annotated[
        str | None,
        typer.Option(
            help="A name from `seedbed teachers list`. Required if there are several teachers. "
            "`local`, where no teacher is configured, is a small model in the worker."
        ),
    ] = None,
    max_seconds: Annotated[int | None, typer.Option(min=1, help="The most seconds of the run.")] = None,
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Run the whole pipeline once: seed tasks, a Self-Instruct run, a snapshot, a LoRA fine-tune, downloads."""
    if language not in BUNDLED:
        raise CommandError(f"There are no bundled seeds for {language!r}; choose {' or '.join(BUNDLED)}.")
    start = time.monotonic()
    # The stack must end with the demo, also when the terminal closes: its processes would go on otherwise.
    with interrupt_on_signals(), running_stack(state_dir, teacher) as (url, key), Seedbed(url, key) as client:
        # A second demo must not overwrite the files of the first, and dataset names are unique.
        stamp = time.strftime("%Y%m%d-%H%M%S")
        stages = DemoStages(client, stamp, out / stamp)
        run_stages(stages, target, language, teacher, max_seconds)
        print_report(stages, time.monotonic() - start)


@contextmanager
def running_stack(state_dir: Path, teacher: str | None = None) -> Iterator[tuple[str, str]]:
    """Yield the URL and the API key of the stack that runs on `state_dir`, or of a new one that ends with the demo.

    A new stack has the small local model as its teacher if `teacher` is its name and no teacher is configured.
    """
    state, start = StateDir(state_dir.resolve()).read_state(), time.monotonic()
    # Two stacks can't share a state directory, so a running stack is used instead of a new one.
    if state:
        print(f"Using the stack that runs at {state['url']}.", flush=True)
        yield state["url"], StateDir(state_dir.resolve()).read_api_key()
        return
    print("Starting PostgreSQL, Redis, the API and the workers …", flush=True)
    file = config.settings().config
    if teacher == LOCAL_NAME and names_no_teacher(file):
        new_state_dir = StateDir(state_dir.resolve())
        new_state_dir.path.mkdir(parents=True, exist_ok=True)
        file = write_local_config(new_state_dir, file)
    with local_stack(state_dir, config_file=file) as stack:
        print(f"Ready after {time.monotonic() - start:.1f} s: {stack.url}/docs", flush=True)
        yield stack.url, stack.api_key


def run_stages(
    stages: DemoStages, target: int, language: str, teacher: str | None, max_seconds: int | None = None
) -> None:
    """Create the dataset, then run the stages one after another.

    Raises:
        CommandError: A stage did not succeed, or the run ended with fewer than `target` accepted records.
    """
    client = stages.client
    teacher = choose_teacher(client, teacher)
    dataset = client.create_dataset(f"demo {stages.stamp}", language, {"bundled": BUNDLED[language]})
    print(f"Dataset {dataset['name']!r} with {dataset['counts']['seeds']} seed tasks: {dataset['id']}", flush=True)
    body = {"dataset_id": dataset["id"], "teacher": teacher, "target": target, "max_seconds": max_seconds}
    if teacher == LOCAL_NAME:
        body["options"] = LOCAL_OPTIONS
    run = stages.run_stage("run", "Self-Instruct", lambda: client.start_run(**body), progress.measure_run)
    # A run also succeeds at a ceiling or when its material is exhausted; the demo has promised a number of records.
    if run["counts"]["accepted"] != target:
        accepted = f"{run['counts']['accepted']} of {target} records"
        raise CommandError(f"{run['id']} ended with {run['stop_reason']} and {accepted}.")
    export = {"dataset_id": dataset["id"], "forms": FORMS, "splits": SPLITS}
    snapshot = stages.run_stage(
        "snapshot", "Snapshot", lambda: client.start_snapshot(**export), progress.measure_snapshot
    )
    # The tiny model is made from the rows, so that the demo needs no download and no GPU.
    training = {"snapshot_id": snapshot["id"], "base_model": "tiny", "method": "lora"}
    stages.run_stage(
        "fine-tune", "Fine-tune", lambda: client.start_fine_tune(**training), progress.measure_with_loss(client)
    )
    stages.download()
