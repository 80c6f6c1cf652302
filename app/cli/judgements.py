"""seedbed judgements: a judge's scores for existing records."""

from typing import Annotated

import typer

from app.cli.jobs import show_or_wait, wait_for_end
from app.cli.progress import measure_judgement
from app.cli.quality import show_scores
from app.cli.runs import choose_teacher
from app.cli.session import Session, connected, parse_json, print_json
from app.cli.tables import console

app = typer.Typer(no_args_is_help=True)

FIELDS = (
    *("id", "status", "stop_reason", "error", "dataset_id", "teacher", "paused_for", "resume_at", "rows", "done_rows"),
    *("outcomes", "rejected", "usage.requests", "usage.cost_usd", "usage.certain_usd", "usage.possible_usd"),
    *("account_id", "note"),
)


@app.command("start")
@connected
def start(
    session: Session,
    dataset: str,
    teacher: Annotated[
        str | None, typer.Option(help="The teacher that judges: a name from `seedbed teachers list`.")
    ] = None,
    origin: Annotated[str | None, typer.Option(help="Only seed, generated or imported records.")] = None,
    run: Annotated[str | None, typer.Option(help="Only the records of this run.")] = None,
    filter: Annotated[str, typer.Option(help="Other filters of the records, as JSON.")] = "{}",
    options: Annotated[str, typer.Option(help="The stages, aspects, rubric and thresholds, as JSON.")] = "{}",
    reject: Annotated[
        bool, typer.Option("--reject", help="Reject accepted records that score below a threshold.")
    ] = False,
    max_requests: Annotated[int | None, typer.Option(help="The most calls to make.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="The most tokens to use.")] = None,
    max_usd: Annotated[float | None, typer.Option(help="The most US dollars to spend.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show the progress until the judgement ends.")] = False,
) -> None:
    """Judge the accepted records of a dataset, or the records that the filters select, and store their scores."""
    filters = {name: value for name, value in {"origin": origin, "run_id": run}.items() if value is not None}
    # The service distinguishes a missing ceiling from null, so unset options are left out.
    ceilings = {"max_requests": max_requests, "max_tokens": max_tokens, "max_usd": max_usd}
    body = {
        "dataset_id": dataset,
        "teacher": choose_teacher(session.client, teacher),
        "filter": parse_json(filter, "filter") | filters,
        "options": parse_json(options, "options"),
        "reject": reject,
        **{name: value for name, value in ceilings.items() if value is not None},
    }
    show_or_wait(session, session.client.start_judgement(**body), wait, "judgement", measure_judgement, FIELDS)


@app.command("list")
@connected
def list_all(
    session: Session, dataset: Annotated[str | None, typer.Option(help="Only judgements of this dataset.")] = None
) -> None:
    """List all judgements, newest first."""
    rows = session.client.find("judgements", dataset_id=dataset)
    session.table(rows, ("id", "status", "stop_reason", "dataset_id", "teacher", "done_rows", "rows", "outcomes"))


@app.command("show")
@connected
def show(session: Session, id: str) -> None:
    """Show one judgement: its state, outcomes and costs."""
    session.show(session.client.get(id), FIELDS)


@app.command("wait")
@connected
def wait_for(session: Session, id: str) -> None:
    """Show the progress of a judgement until it ends. The exit status is 1 if it did not succeed."""
    wait_for_end(session, session.client.get(id), "judgement", measure_judgement, FIELDS)


@app.command("pause")
@connected
def pause(session: Session, id: str) -> None:
    """Pause a judgement. Calls in flight are completed first."""
    session.show(session.client.act(id, "pause"), FIELDS)


@app.command("resume")
@connected
def resume(session: Session, id: str) -> None:
    """Resume a paused judgement."""
    session.show(session.client.act(id, "resume"), FIELDS)


@app.command("cancel")
@connected
def cancel(session: Session, id: str) -> None:
    """Cancel a judgement. The scores that it has stored are kept."""
    session.show(session.client.act(id, "cancel"), FIELDS)


@app.command("report")
@connected
def report(session: Session, id: str) -> None:
    """Show the outcomes, the cost of each step, and statistics of the scores."""
    judgement_report = session.client.judgement_report(id)
    if session.json:
        print_json(judgement_report)
        return
    console().print(
        f"{judgement_report['done_rows']} of {judgement_report['rows']} judged, {judgement_report['rejected']} rejected"
    )
    # The most frequent outcome first.
    for outcome, count in sorted(judgement_report["outcomes"].items(), key=lambda item: -item[1]):
        console().print(f"{count:>8}  {outcome}")
    session.table(
        judgement_report["economy"]["steps"], ("name", "calls", "prompt_tokens", "completion_tokens", "cost_usd")
    )
    show_scores(session, judgement_report["quality"])
    if judgement_report["note"]:
        console().print(f"\n{judgement_report['note']}")
