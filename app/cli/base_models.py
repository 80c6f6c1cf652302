"""seedbed base-models."""

import typer

from app.cli.session import Session, connected

app = typer.Typer(no_args_is_help=True)


@app.command("list")
@connected
def list_all(session: Session) -> None:
    """Names for `--base-model`."""
    session.table(session.client.base_models(), ("name", "kind", "hub", "revision"))
