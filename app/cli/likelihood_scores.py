"""seedbed likelihood-scores: perplexity and IFD of a dataset's rows by a causal language model."""

from typing import Annotated

import typer

from app.cli.jobs import show_or_wait
from app.cli.progress import measure_likelihood_scores
from app.cli.session import Session, connected

app = typer.Typer(no_args_is_help=True)

FIELDS = (
    *("id", "status", "stop_reason", "error", "dataset_id", "run_id", "base_model", "rows", "done_rows", "summary"),
    *("note", "queue.message"),
)


@app.command("start")
@connected
def start(
    session: Session,
    dataset: str,
    base_model: Annotated[
        str, typer.Option(help="The scoring model: a name from `seedbed base-models list`.")
    ] = "tiny",
    run: Annotated[str | None, typer.Option(help="Only the rows of this run.")] = None,
    max_length: Annotated[int, typer.Option(help="The most tokens of a row. Longer rows are truncated.")] = 1024,
    wait: Annotated[bool, typer.Option("--wait", help="Show the progress until the job ends.")] = False,
) -> None:
    """Score the accepted rows of a dataset. Each row gets the scores local.perplexity and local.ifd."""
    body = {"dataset_id": dataset, "base_model": base_model, "run_id": run, "max_length": max_length}
    show_or_wait(
        session, session.client.start_likelihood_scores(**body), wait, "scoring", measure_likelihood_scores, FIELDS
    )


@app.command("list")
@connected
def list_all(session: Session) -> None:
    """All jobs of likelihood scores, newest first."""
    fields = ("id", "status", "stop_reason", "dataset_id", "base_model", "done_rows", "rows")
    session.table(session.client.find("likelihood-scores"), fields)


@app.command("show")
@connected
def show(session: Session, id: str) -> None:
    """One scoring: its state, and the means of what it found."""
    session.show(session.client.get(id), FIELDS)


@app.command("cancel")
@connected
def cancel(session: Session, id: str) -> None:
    """End a scoring; the rows that were scored keep their scores."""
    session.show(session.client.act(id, "cancel"), FIELDS)
