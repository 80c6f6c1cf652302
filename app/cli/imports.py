"""seedbed imports: what was uploaded to a dataset. `seedbed datasets import` starts one."""

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
    """All imports of a dataset, newest first."""
    rows = session.client.imports(dataset)
    session.table(rows, ("id", "kind", "status", "stop_reason", "done_rows", "rows", "accepted", "rejected"))


@app.command("show")
@connected
def show(session: Session, dataset: str, id: str) -> None:
    """One import and its counts."""
    session.show(session.client.get(id, dataset), FIELDS)


@app.command("cancel")
@connected
def cancel(session: Session, dataset: str, id: str) -> None:
    """End an import; the rows that were admitted by then stay."""
    session.show(session.client.act(id, "cancel", dataset), FIELDS)
