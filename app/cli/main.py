"""The command line, `seedbed`. Each command imports what it needs when it runs, so that the help is quick."""

import sys
from typing import Annotated

import typer

from app.cli import datasets, finetunes, operator, reviews, runs, scorings, snapshots
from app.cli.demo import demo
from app.cli.session import CommandError
from app.cli.up import up

app = typer.Typer(
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


app.command("up")(up)
app.command("demo")(demo)
app.add_typer(datasets.app, name="datasets")
app.command("records")(datasets.records)
app.command("tasks")(datasets.tasks)
app.add_typer(runs.app, name="runs")
app.command("methods")(runs.methods)
app.add_typer(reviews.app, name="reviews")
app.add_typer(reviews.evaluation_sets, name="evaluation-sets")
app.command("encoders")(reviews.encoders)
app.command("neighbours")(reviews.neighbours)
app.add_typer(scorings.app, name="scorings")
app.add_typer(snapshots.app, name="snapshots")
app.add_typer(finetunes.app, name="finetunes")
app.add_typer(operator.teachers, name="teachers")
app.add_typer(operator.base_models, name="base-models")
app.add_typer(operator.keys, name="keys")
app.command("migrate")(operator.migrate)


@app.command(
    "simulate-teacher",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def simulate_teacher(context: typer.Context) -> None:
    """A simulated teacher that speaks the OpenAI protocol (its options: seedbed simulate-teacher --help)."""
    from app.simulator.__main__ import simulate_teacher as command

    one = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    one.command()(command)
    one(args=context.args, prog_name="seedbed simulate-teacher")


def main() -> None:
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        words = _words(error)
        if words is None:
            raise
        print(f"seedbed: {words}", file=sys.stderr)
        sys.exit(1)


def _words(error: Exception) -> str | None:
    """What to tell the person; None for a fault of ours, which shows its traceback."""
    from sqlalchemy.exc import OperationalError

    from app.client import SeedbedError
    from app.config import ConfigurationError
    from app.stack.home import StackError

    if isinstance(error, OperationalError):
        return f"The database can't be used: {error.orig}".strip()
    return str(error) if isinstance(error, (CommandError, SeedbedError, ConfigurationError, StackError)) else None
