"""seedbed imports: the uploads to a dataset. `seedbed datasets import` starts one."""

import typer

from app.cli.session import Session, connected

app = typer.Typer(no_args_is_help=True, help="Imports into a dataset; `seedbed datasets import` starts one.")

FIELDS = (
    *("id", "status", "stop_reason", "error", "rows", "done_rows", "accepted", "rejected", "rejected_by_reason"),
    "queue.message",
)


@app.command("list")
@connected
def list_all(session: Session, dataset: str) -> None:
    """List all imports of a dataset, newest first."""
    rows = session.client.imports(dataset)
    session.table(rows, ("id", "kind", "status", "stop_reason", "done_rows", "rows", "accepted", "rejected"))


@app.command("show")
@connected
def show(session: Session, dataset: str, id: str) -> None:
    """Show one import and its counts of rows."""
    session.show(session.client.get(id, dataset), FIELDS)


@app.command("cancel")
@connected
def cancel(session: Session, dataset: str, id: str) -> None:
    """Cancel an import. The rows that it has admitted so far are kept."""
    session.show(session.client.act(id, "cancel", dataset), FIELDS)
