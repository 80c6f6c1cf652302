"""seedbed datasets, seedbed records and seedbed tasks."""

import json
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from app.cli import imports, maintenance
from app.cli.jobs import wait_for_end
from app.cli.progress import measure_import
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
    name: Annotated[str, typer.Argument(help="The name. It must be new in the project.")],
    language: Annotated[str, typer.Option(help="The language of the rows: en, ko, …")] = "en",
    bundled: Annotated[str | None, typer.Option(help="Add the bundled seed tasks: english or korean.")] = None,
    seeds: Annotated[Path | None, typer.Option(help="Add the seed tasks of this JSONL file.")] = None,
    scope: Annotated[
        str, typer.Option(help="The text that is compared to find duplicates: instruction, instruction_input or row.")
    ] = "instruction",
    lexical: Annotated[float, typer.Option(help="A row with a ROUGE-L F1 above this value is a duplicate.")] = 0.7,
    semantic: Annotated[float, typer.Option(help="A row with a cosine of at least this value is a duplicate.")] = 0.9,
    encoder: Annotated[str | None, typer.Option(help="The embedding model: a name from `seedbed encoders`.")] = None,
) -> None:
    """Create a dataset, with or without seed tasks."""
    if bundled and seeds:
        raise CommandError("A dataset takes either --bundled or --seeds, not both.")
    source = {"bundled": bundled} if bundled else {"tasks": _read_lines(seeds)} if seeds else None
    # All of these are fixed when the dataset is created, since stored decisions depend on them.
    settings = {"scope": scope, "lexical_threshold": lexical, "semantic_threshold": semantic, "encoder": encoder}
    session.show(session.client.create_dataset(name, language, source, **settings), FIELDS)


@app.command("list")
@connected
def list_all(session: Session) -> None:
    """List all datasets, newest first."""
    rows = session.client.find("datasets")
    session.table(rows, ("id", "name", "language", "counts.seeds", "counts.accepted", "counts.rejected"))


@app.command("show")
@connected
def show(session: Session, id: str) -> None:
    """Show one dataset, and for which reasons its rows were rejected."""
    dataset = session.client.get(id)
    if session.json:
        session.show(dataset, ())
        return
    # The reasons need a second request, which --json leaves out: there the output is one resource.
    session.show(dataset | {"rejected": session.client.stats(id)["by_reason"]}, (*FIELDS, "rejected"))


app.command("decontaminate")(maintenance.decontaminate)
app.command("reencode")(maintenance.reencode)


@app.command("import")
@connected
def import_file(
    session: Session,
    id: Annotated[str, typer.Argument(help="The id of the dataset.")],
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)],
    kind: Annotated[
        str, typer.Option(help="The content of the file: seeds, records, instructions, labelled or documents.")
    ] = "records",
    task: Annotated[str | None, typer.Option(help="The task of labelled rows: a name from `seedbed tasks`.")] = None,
) -> None:
    """Upload a JSONL file of seeds, rows, instructions, labelled rows or documents, and wait for the import.

    A document may also be a .txt or .md file.
    """
    job = session.client.import_file(id, file, kind, task)
    wait_for_end(session, job, "import", measure_import, imports.FIELDS)


@connected
def tasks(session: Session) -> None:
    """List the tasks for labelled rows, and the fields of each task."""
    # A table cell has one value, and the fields are a list.
    rows = ({**task, "fields": ", ".join(task["fields"])} for task in session.client.tasks())
    session.table(rows, ("name", "fields", "phrasings", "summary"))


@connected
def records(
    session: Session,
    id: Annotated[str, typer.Argument(help="The id of the dataset.")],
    status: Annotated[str | None, typer.Option(help="Only accepted or rejected records.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only records that were rejected for this reason.")] = None,
    origin: Annotated[str | None, typer.Option(help="Only seed, generated or imported records.")] = None,
    run: Annotated[str | None, typer.Option(help="Only records of this run.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many records to show at most.")] = 20,
) -> None:
    """List records of a dataset, newest first, with the reason for each rejection."""
    rows = session.client.records(id, status=status, reason=reason, origin=origin, run_id=run)
    # The client yields records page by page, so a small limit makes only one request.
    session.table(islice(rows, limit), ("id", "origin", "status", "reason", "instruction", "output"))


@connected
def replies(
    session: Session, id: Annotated[str, typer.Argument(help="The id of a record, accepted or rejected.")]
) -> None:
    """Show the teacher's replies behind a record as they came, with the thought and the repairs of each."""
    rows = session.client.replies(id)
    if session.json:
        session.show({"data": rows}, ())
        return
    for row in rows:
        repairs = ", ".join(row["repairs"]) or "none"
        heading = f"{row['step']} of {row['teacher']}: {row['completion_tokens']} tokens, {row['finish_reason']}"
        typer.echo(f"-- {heading}, repairs: {repairs}")
        if row["thought"]:
            typer.echo(f"[thought] {row['thought']}")
        typer.echo(row["text"] if row["raw_text"] is None else row["raw_text"])


def _read_lines(file: Path) -> list[dict]:
    try:
        # Not splitlines(): a JSON string may contain other characters that it treats as line breaks.
        return [json.loads(line) for line in file.read_text("utf-8").split("\n") if line.strip()]
    except (OSError, ValueError) as error:
        raise CommandError(f"{file} can't be read as JSON lines: {error}") from error
