"""seedbed finetunes."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.jobs import finish, show_or_wait
from app.cli.progress import with_loss
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
Wait = Annotated[bool, typer.Option("--wait", help="Show the progress, until it has ended.")]


@app.command("start")
@connected
def start(
    session: Session,
    snapshot: str,
    base_model: Annotated[str, typer.Option(help="A name from `seedbed base-models list`.")] = "tiny",
    method: Annotated[str, typer.Option(help="How to tune it.")] = "lora",
    hyperparameters: Annotated[str, typer.Option(help='As JSON, for example {"epochs": 2}.')] = "{}",
    seed: Annotated[int, typer.Option(help="Seed of the training.")] = 0,
    wait: Wait = False,
) -> None:
    """Start a fine-tune on a snapshot."""
    values = parse_json(hyperparameters, "hyperparameters")
    body = {"snapshot_id": snapshot, "base_model": base_model, "method": method}
    job = session.client.start_fine_tune(**body, hyperparameters=values, seed=seed)
    show_or_wait(session, job, wait, "fine-tune", with_loss(session.client), FIELDS)


@app.command("list")
@connected
def list_all(session: Session) -> None:
    """All fine-tunes, newest first."""
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
    finish(session, session.client.get(id), "fine-tune", with_loss(session.client), FIELDS)


@app.command("cancel")
@connected
def cancel(session: Session, id: str) -> None:
    """End a fine-tune."""
    session.show(session.client.act(id, "cancel"), FIELDS)


@app.command("download")
@connected
def download(
    session: Session,
    id: str,
    to: Annotated[Path, typer.Option("--to", help="Folder for the artifacts.")] = Path("."),
) -> None:
    """Fetch the adapter and everything beside it, and check the digests."""
    job = session.client.get(id)
    if not job["artifacts"]:
        raise CommandError(f"{id} has no artifacts yet.")
    for _, path in session.client.download_all(job, to):
        print(path)
