"""The command line `seedbed`: the table of its commands.

A new command is an entry in the table and a module in this package. This module imports nothing that loads slowly, so
that `seedbed --help` answers quickly.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from app.cli.lazy import LazyCommand, LazyGroup
from app.errors import UserFacingError


class Commands(LazyGroup):
    """All commands of `seedbed`."""

    lazy_commands = {
        "up": LazyCommand(
            "app.cli.up:up",
            "Start the whole service on this machine, print its address and an API key, and stop it at Ctrl-C.",
        ),
        "demo": LazyCommand(
            "app.cli.demo:demo",
            "Run the whole pipeline once: seed tasks, a Self-Instruct run, a snapshot, a LoRA fine-tune, downloads.",
        ),
        "datasets": LazyCommand("app.cli.datasets:app", "Datasets: create them, show them, and import rows."),
        "imports": LazyCommand("app.cli.imports:app", "Imports into a dataset; `seedbed datasets import` starts one."),
        "records": LazyCommand(
            "app.cli.datasets:records", "List records of a dataset, newest first, with the reason for each rejection."
        ),
        "tasks": LazyCommand(
            "app.cli.datasets:tasks", "List the tasks for labelled rows, and the fields of each task."
        ),
        "runs": LazyCommand("app.cli.runs:app", "Generation runs: start, preview, follow, pause and cancel them."),
        "accounts": LazyCommand(
            "app.cli.accounts:app",
            "Accounts: how much the teacher calls of a job may cost, and how much they have cost.",
        ),
        "replies": LazyCommand(
            "app.cli.datasets:replies",
            "Show the teacher's replies behind a record as they came, with the thought and the repairs of each.",
        ),
        "judgements": LazyCommand("app.cli.judgements:app", "Judgements: a judge's scores for existing records."),
        "methods": LazyCommand(
            "app.cli.runs:methods",
            "List the methods of a run, or the options of one method (for `runs start --options`).",
        ),
        "maintenance": LazyCommand(
            "app.cli.maintenance:app", "Decisions looked at again: refilter, decontamination, re-encoding."
        ),
        "reviews": LazyCommand(
            "app.cli.maintenance:app", "The old name of `seedbed maintenance`.", new_name="maintenance"
        ),
        "scorings": LazyCommand(
            "app.cli.likelihood_scores:app",
            "The old name of `seedbed likelihood-scores`.",
            new_name="likelihood-scores",
        ),
        "evaluation-sets": LazyCommand(
            "app.cli.maintenance:evaluation_sets",
            "Evaluation sets: the test questions that `datasets decontaminate` looks for in a dataset.",
        ),
        "encoders": LazyCommand(
            "app.cli.maintenance:encoders", "List the embedding models that the operator has configured."
        ),
        "neighbours": LazyCommand(
            "app.cli.maintenance:neighbours",
            "List the accepted rows that are most similar to a record, with the lexical and the semantic score.",
        ),
        "likelihood-scores": LazyCommand(
            "app.cli.likelihood_scores:app", "Scores of rows by a causal language model: perplexity and IFD."
        ),
        "snapshots": LazyCommand("app.cli.snapshots:app", "Snapshots: exports of a dataset that never change."),
        "finetunes": LazyCommand("app.cli.finetunes:app", "Fine-tunes of a base model on a snapshot."),
        "teachers": LazyCommand("app.cli.teachers:app", "Teachers: list the configured teachers, and check them."),
        "base-models": LazyCommand(
            "app.cli.base_models:app", "Base models: list the models that a fine-tune can start from."
        ),
        "keys": LazyCommand(
            "app.cli.keys:app", "API keys. This command works on the database and needs no running service."
        ),
        "migrate": LazyCommand("app.cli.migrate:migrate", "Migrate the database to the newest schema."),
        "simulate-teacher": LazyCommand(
            "app.simulator.command:simulate_teacher",
            "Serve the simulated teacher, an OpenAI-compatible endpoint whose replies are composed from parts.",
        ),
    }


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    # Tracebacks with local variables could show API keys.
    pretty_exceptions_enable=False,
    help="Instruction-tuning data from a handful of seed tasks, and a small model tuned on it.",
)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Print the version if that is asked for. Otherwise a command follows."""
    if version:
        # Imported here: reading the metadata of packages would slow down every other command.
        from importlib.metadata import version as package_version

        print(package_version("seedbed"))
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, and exit. An error for people is one line on stderr with exit status 1, never a traceback.

    Args:
        arguments: The command with its options; None takes those of the process.
    """
    try:
        app(arguments)
    except KeyboardInterrupt:
        # 128 plus the number of SIGINT, as shells report a process that Ctrl-C ended.
        sys.exit(130)
    except UserFacingError as error:
        print(f"seedbed: {error}", file=sys.stderr)
        sys.exit(1)
