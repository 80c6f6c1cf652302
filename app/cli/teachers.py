"""seedbed teachers. `check` is a lazy command, since it loads the client of an endpoint and `list` does not need it."""

import typer

from app.cli.lazy import LazyCommand, LazyGroup
from app.cli.session import Session, connected


class Commands(LazyGroup):
    """The commands of `seedbed teachers` that load slowly."""

    lazy_commands = {
        "check": LazyCommand(
            "app.cli.teacher_check:check_teachers",
            "Request small replies in each form, and store the best form that the teacher supports.",
        ),
    }


app = typer.Typer(cls=Commands, no_args_is_help=True)


@app.command("list")
@connected
def list_all(session: Session) -> None:
    """List the names that `--teacher` accepts, with prices in US dollars per million tokens."""
    fields = ("name", "model", "prompt_price", "cached_price", "completion_price", "in_flight", "replies")
    session.table(session.client.teachers(), fields)
