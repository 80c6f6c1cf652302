"""seedbed snapshots: create, show and download snapshots of a dataset."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.jobs import wait_for_end
from app.cli.progress import measure_snapshot
from app.cli.session import CommandError, Session, connected, parse_json

app = typer.Typer(no_args_is_help=True)

FIELDS = (
    "id",
    "status",
    "stop_reason",
    "error",
    "dataset_id",
    "rows",
    "splits",
    "digest",
    "simulated",
    "note",
    "queue.message",
)


@app.command("create")
@connected
def create(
    session: Session,
    dataset: str,
    form: Annotated[
        list[str] | None,
        typer.Option(help="The form of the files: alpaca, messages, sharegpt, dpo, … May be repeated."),
    ] = None,
    train: Annotated[float, typer.Option(help="The share of the training split.")] = 0.9,
    validation: Annotated[float, typer.Option(help="The share of the validation split.")] = 0.05,
    test: Annotated[float, typer.Option(help="The share of the test split.")] = 0.05,
    seed: Annotated[int, typer.Option(help="The random seed. The same seed makes the same splits.")] = 0,
    reasoning: Annotated[str, typer.Option(help="Whether answers contain their reasoning: drop or include.")] = "drop",
    minimum_scores: Annotated[
        str, typer.Option(help='The lowest scores to include, as JSON, for example {"judge.overall": 4}.')
    ] = "{}",
    mix: Annotated[
        str, typer.Option(help='The shares of the methods, as JSON, for example {"weights": {"safety": 0.1}}.')
    ] = "null",
    selection: Annotated[
        str, typer.Option(help='The selection of rows, as JSON, for example {"method": "top_k", "k": 1000}.')
    ] = "null",
) -> None:
    """Export the records that are accepted now, and wait until the files are written."""
    # These options are nested objects, for which the command line has no other notation.
    json_options = {"minimum_scores": minimum_scores, "mix": mix, "selection": selection}
    filters = {name: parse_json(value, name) for name, value in json_options.items()} | {"reasoning": reasoning}

    splits = {"train": train, "validation": validation, "test": test}
    body = {"dataset_id": dataset, "splits": splits, "seed": seed, **filters}
    snapshot = session.client.start_snapshot(**body, forms=form or ["alpaca", "messages", "sharegpt"])
    wait_for_end(session, snapshot, "snapshot", measure_snapshot, FIELDS)


@app.command("list")
@connected
def list_all(session: Session) -> None:
    """List all snapshots, newest first."""
    session.table(session.client.find("snapshots"), ("id", "status", "dataset_id", "rows", "digest"))


@app.command("show")
@connected
def show(session: Session, id: str) -> None:
    """Show one snapshot and its files."""
    snapshot = session.client.get(id)
    session.show(snapshot, FIELDS)
    if not session.json:
        session.table(snapshot.get("files") or [], ("name", "rows", "bytes", "sha256"))


@app.command("cancel")
@connected
def cancel(session: Session, id: str) -> None:
    """Cancel the export of a snapshot. No file of it is kept."""
    session.show(session.client.act(id, "cancel"), FIELDS)


@app.command("download")
@connected
def download(
    session: Session,
    id: str,
    to: Annotated[Path, typer.Option("--to", help="The folder to save the files in.")] = Path("."),
    name: Annotated[list[str] | None, typer.Option(help="Download only this file. May be repeated.")] = None,
) -> None:
    """Download the files and check their digests."""
    snapshot = session.client.get(id)
    names = [file["name"] for file in snapshot["files"] or []]
    # Checked before the first download, so that a typing error does not cost a part of the files.
    if unknown := set(name or ()) - set(names):
        raise CommandError(f"{id} has no file {', '.join(sorted(unknown))}. It has: {', '.join(names) or 'none yet'}.")
    snapshot["files"] = [file for file in snapshot["files"] or [] if not name or file["name"] in name]
    for _, path in session.client.download_all(snapshot, to):
        print(path)
