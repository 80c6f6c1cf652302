"""seedbed keys: API keys. The command works on the database, since a first key must exist before any request."""

from typing import Annotated

import typer

from app.access import service
from app.cli.database import use_database
from app.cli.session import DEFAULT_STATE_DIR, StateDirOption
from app.persistence import db

app = typer.Typer(no_args_is_help=True)


@app.command("create")
def create(
    project: Annotated[
        str, typer.Option(help="The project of the key. It is created if it does not exist.")
    ] = "default",
    name: Annotated[str, typer.Option(help="A note on the purpose of the key.")] = "seedbed keys create",
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
) -> None:
    """Create an API key and print it. Only its hash is stored, so it can't be shown again."""
    with use_database(state_dir), db.transaction() as session:
        key = service.create_key(session, service.ensure_project(session, project), name)
    print(key)
