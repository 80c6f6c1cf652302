"""seedbed datasets, seedbed records."""

import json
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from app.cli import imports, reviews
from app.cli.jobs import finish
from app.cli.progress import of_import
from app.cli.session import CommandError, Session, connected

app = typer.Typer(no_args_is_help=True)

FIELDS = (
    *("id", "name", "language", "counts", "simulated", "scope", "encoder", "encoding"),
    *("lexical_threshold", "semantic_threshold", "note"),
)


@app.command("create")
@connected
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="A name that no other dataset of the project has.")],
    language: Annotated[str, typer.Option(help="Language tag: en, ko, …")] = "en",
    bundled: Annotated[str | None, typer.Option(help="Start with bundled seed tasks: english or korean.")] = None,
    seeds: Annotated[Path | None, typer.Option(help="Start with seed tasks from this JSONL file.")] = None,
    scope: Annotated[
        str, typer.Option(help="What is compared: instruction, instruction_input or row.")
    ] = "instruction",
    lexical: Annotated[float, typer.Option(help="ROUGE-L F1 above it is a duplicate.")] = 0.7,
    semantic: Annotated[float, typer.Option(help="Cosine at or above it is a duplicate.")] = 0.9,
    encoder: Annotated[str | None, typer.Option(help="A name from `seedbed encoders`.")] = None,
) -> None:
    """Make a dataset, with seeds if given."""
    if bundled and seeds:
        raise CommandError("Give either --bundled or --seeds.")
    source = {"bundled": bundled} if bundled else {"tasks": _read_lines(seeds)} if seeds else None
    rules = {"scope": scope, "lexical_threshold": lexical, "semantic_threshold": semantic, "encoder": encoder}
    session.show(session.client.create_dataset(name, language, source, **rules), FIELDS)


@app.command("list")
@connected
def list_all(session: Session) -> None:
    """All datasets, newest first."""
    rows = session.client.find("datasets")
    session.table(rows, ("id", "name", "language", "counts.seeds", "counts.accepted", "counts.rejected"))


@app.command("show")
@connected
def show(session: Session, id: str) -> None:
    """One dataset, and why its rejected rows were rejected."""
    dataset = session.client.get(id)
    if session.json:
        session.show(dataset, ())
        return
    session.show(dataset | {"rejected": session.client.stats(id)["by_reason"]}, (*FIELDS, "rejected"))


app.command("decontaminate")(reviews.decontaminate)
app.command("reencode")(reviews.reencode)


@app.command("import")
@connected
def import_file(
    session: Session,
    id: Annotated[str, typer.Argument(help="The dataset.")],
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)],
    kind: Annotated[str, typer.Option(help="seeds, records, instructions, labelled or documents")] = "records",
    task: Annotated[str | None, typer.Option(help="Of labelled rows: a name from `seedbed tasks`.")] = None,
) -> None:
    """Upload seeds, rows, instructions, labelled rows or documents (JSONL; a document also as .txt), and wait."""
    started = session.client.import_file(id, file, kind, task)
    finish(session, started, "import", of_import, imports.FIELDS)


@connected
def tasks(session: Session) -> None:
    """The tasks that labelled rows may be of, and the fields that their rows have."""
    rows = ({**task, "fields": ", ".join(task["fields"])} for task in session.client.tasks())
    session.table(rows, ("name", "fields", "phrasings", "summary"))


@connected
def records(
    session: Session,
    id: Annotated[str, typer.Argument(help="The dataset.")],
    status: Annotated[str | None, typer.Option(help="accepted or rejected")] = None,
    reason: Annotated[str | None, typer.Option(help="Why it was rejected.")] = None,
    origin: Annotated[str | None, typer.Option(help="seed, generated or imported")] = None,
    run: Annotated[str | None, typer.Option(help="Of this run.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
) -> None:
    """Records of a dataset, newest first, with the reason where they were rejected."""
    matches = session.client.records(id, status=status, reason=reason, origin=origin, run_id=run)
    session.table(islice(matches, limit), ("id", "origin", "status", "reason", "instruction", "output"))


def _read_lines(file: Path) -> list[dict]:
    try:
        return [json.loads(line) for line in file.read_text("utf-8").split("\n") if line.strip()]
    except (OSError, ValueError) as error:
        raise CommandError(f"{file} can't be read as JSON lines: {error}") from error
