"""seedbed finetunes: start, follow and download fine-tunes of a base model on a snapshot."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.jobs import show_or_wait, wait_for_end
from app.cli.progress import measure_with_loss
from app.cli.session import CommandError, Session, connected, parse_json

app = typer.Typer(no_args_is_help=True)

FIELDS = (
    "id",
    "status",
    "stop_reason",
    "error",
    "snapshot_id",
    "base_model",
    "method",
    "stage",
    "step",
    "total_steps",
    "summary",
    "simulated",
    "note",
    "queue.message",
)
Wait = Annotated[bool, typer.Option("--wait", help="Show the progress until the fine-tune ends.")]


@app.command("start")
@connected
def start(
    session: Session,
    snapshot: str,
    base_model: Annotated[
        str, typer.Option(help="The model to tune: a name from `seedbed base-models list`.")
    ] = "tiny",
    method: Annotated[str, typer.Option(help="The method of tuning.")] = "lora",
    hyperparameters: Annotated[
        str, typer.Option(help='The hyperparameters as JSON, for example {"epochs": 2}.')
    ] = "{}",
    seed: Annotated[int, typer.Option(help="The random seed of the training.")] = 0,
    wait: Wait = False,
) -> None:
    """Start a fine-tune on a snapshot."""
    values = parse_json(hyperparameters, "hyperparameters")
    body = {"snapshot_id": snapshot, "base_model": base_model, "method": method}
    job = session.client.start_fine_tune(**body, hyperparameters=values, seed=seed)
    show_or_wait(session, job, wait, "fine-tune", measure_with_loss(session.client), FIELDS)


@app.command("list")
@connected
def list_all(session: Session) -> None:
    """List all fine-tunes, newest first."""
    fields = ("id", "status", "stop_reason", "base_model", "summary.loss_before", "summary.loss_after")
    session.table(session.client.find("fine-tunes"), fields)


@app.command("show")
@connected
def show(session: Session, id: str) -> None:
    """One fine-tune: its state, losses and artifacts."""
    job = session.client.get(id)
    session.show(job, FIELDS)
    if not session.json:
        session.table(job.get("artifacts") or [], ("name", "bytes", "sha256"))


@app.command("wait")
@connected
def wait_for(session: Session, id: str) -> None:
    """Follow a fine-tune until it has ended. Exits 1 unless it succeeded."""
    wait_for_end(session, session.client.get(id), "fine-tune", measure_with_loss(session.client), FIELDS)


@app.command("cancel")
@connected
def cancel(session: Session, id: str) -> None:
    """Cancel a fine-tune. Its events and metrics are kept; it has no artifacts."""
    session.show(session.client.act(id, "cancel"), FIELDS)


@app.command("download")
@connected
def download(
    session: Session,
    id: str,
    to: Annotated[Path, typer.Option("--to", help="The folder to save the artifacts in.")] = Path("."),
) -> None:
    """Download the adapter and all other artifacts, and check their digests."""
    job = session.client.get(id)
    # An empty download would look like a success.
    if not job["artifacts"]:
        raise CommandError(f"{id} has no artifacts yet.")
    for _, path in session.client.download_all(job, to):
        print(path)
