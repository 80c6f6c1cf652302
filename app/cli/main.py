"""The command line, `seedbed`: the table of its commands. A new command is one line here and a module of its own.

Nothing heavy is imported here, so that `seedbed --help` is quick.
"""

import sys
from typing import Annotated

import typer

from app.cli.lazy import LazyCommand, LazyGroup
from app.errors import UserFacingError


class Commands(LazyGroup):
    lazy_commands = {
        "up": LazyCommand(
            "app.cli.up:up", "Start everything here, print the address and a key, and end everything at Ctrl-C."
        ),
        "demo": LazyCommand(
            "app.cli.demo:demo",
            "Walk the whole way once: seeds, a Self-Instruct run, a snapshot, a LoRA fine-tune, the files.",
        ),
        "datasets": LazyCommand("app.cli.datasets:app", "Pools of records, and what goes into them."),
        "imports": LazyCommand("app.cli.imports:app", "Imports into a dataset; `seedbed datasets import` starts one."),
        "records": LazyCommand(
            "app.cli.datasets:records", "Records of a dataset, newest first, with the reason where they were rejected."
        ),
        "tasks": LazyCommand(
            "app.cli.datasets:tasks", "The tasks that labelled rows may be of, and the fields that their rows have."
        ),
        "runs": LazyCommand("app.cli.runs:app", "Generation runs."),
        "accounts": LazyCommand("app.cli.accounts:app", "What the teacher calls of each job may cost, and have cost."),
        "judgements": LazyCommand("app.cli.judgements:app", "A judge's verdicts on records that are there already."),
        "methods": LazyCommand(
            "app.cli.runs:methods",
            "The ways of making data; with a name, the options that `runs start --options` takes for it.",
        ),
        "reviews": LazyCommand(
            "app.cli.reviews:app", "Decisions looked at again: refilter, decontamination, re-encoding."
        ),
        "evaluation-sets": LazyCommand("app.cli.reviews:evaluation_sets", "What a tuned model will be tested on."),
        "encoders": LazyCommand("app.cli.reviews:encoders", "The embedding models that the operator configured."),
        "neighbours": LazyCommand(
            "app.cli.reviews:neighbours",
            "The rows of the pool nearest to a record, accepted or rejected, with both scores.",
        ),
        "scorings": LazyCommand(
            "app.cli.scorings:app", "Scores of rows by a causal language model: perplexity and IFD."
        ),
        "snapshots": LazyCommand("app.cli.snapshots:app", "Frozen exports of a dataset."),
        "finetunes": LazyCommand("app.cli.finetunes:app", "Fine-tunes of a causal language model on a snapshot."),
        "teachers": LazyCommand("app.cli.teachers:app", "The teachers that are configured."),
        "base-models": LazyCommand("app.cli.base_models:app", "The base models that are configured."),
        "keys": LazyCommand("app.cli.keys:app", "API keys (works on the database itself)."),
        "migrate": LazyCommand("app.cli.migrate:migrate", "Bring the database to the newest schema."),
        "simulate-teacher": LazyCommand(
            "app.simulator.command:simulate_teacher",
            "Serve the simulated teacher, an OpenAI-compatible endpoint whose replies are composed from parts.",
        ),
    }


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Instruction-tuning data from a handful of seed tasks, and a small model tuned on it.",
)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from importlib.metadata import version as installed

        print(installed("seedbed"))
        raise typer.Exit


def main() -> None:
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except UserFacingError as error:
        print(f"seedbed: {error}", file=sys.stderr)
        sys.exit(1)
