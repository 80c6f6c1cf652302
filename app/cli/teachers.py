"""seedbed teachers. Checking a teacher loads the client of its endpoint, which listing need not wait for."""

import typer

from app.cli.lazy import LazyCommand, LazyGroup
from app.cli.session import Session, connected


class Commands(LazyGroup):
    lazy_commands = {
        "check": LazyCommand(
            "app.cli.teacher_check:check_teachers",
            "Ask a teacher for small replies, find the form it can give, and store it (works on the database itself).",
        ),
    }


app = typer.Typer(cls=Commands, no_args_is_help=True)


@app.command("list")
@connected
def list_all(session: Session) -> None:
    """Names for `--teacher`, with prices in US dollars per million tokens."""
    fields = ("name", "model", "prompt_price", "cached_price", "completion_price", "in_flight", "replies")
    session.table(session.client.teachers(), fields)
