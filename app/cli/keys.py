"""seedbed keys."""

from typing import Annotated

import typer

from app.access import service
from app.cli.database import use_database
from app.cli.session import DEFAULT_HOME, HomeOption
from app.persistence import db

app = typer.Typer(no_args_is_help=True)


@app.command("create")
def create(
    project: Annotated[str, typer.Option(help="The key's project; it is made if it is new.")] = "default",
    name: Annotated[str, typer.Option(help="A note on what it is for.")] = "seedbed keys create",
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Make an API key, and print it: nothing but its hash is kept."""
    with use_database(home), db.transaction() as session:
        key = service.create_key(session, service.ensure_project(session, project), name)
    print(key)
