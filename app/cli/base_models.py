"""seedbed base-models: the models that a fine-tune can start from."""

import typer

from app.cli.session import Session, connected

app = typer.Typer(no_args_is_help=True)


@app.command("list")
@connected
def list_all(session: Session) -> None:
    """List the names that `--base-model` accepts."""
    session.table(session.client.base_models(), ("name", "kind", "hub", "revision"))
