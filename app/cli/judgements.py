"""seedbed judgements: a judge's verdicts on records that are there already."""

from typing import Annotated

import typer

from app.cli.jobs import finish, show_or_wait
from app.cli.progress import of_judgement
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
    teacher: Annotated[str | None, typer.Option(help="The judge: a name from `seedbed teachers list`.")] = None,
    origin: Annotated[str | None, typer.Option(help="Only seed, generated or imported records.")] = None,
    run: Annotated[str | None, typer.Option(help="Only the records of this run.")] = None,
    filter: Annotated[str, typer.Option(help="Other filters of the records, as JSON.")] = "{}",
    options: Annotated[str, typer.Option(help="Stages, aspects, rubric, thresholds, as JSON.")] = "{}",
    reject: Annotated[bool, typer.Option("--reject", help="Reject accepted records under the thresholds.")] = False,
    max_requests: Annotated[int | None, typer.Option(help="Stop before more calls than this.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Stop before more tokens than this.")] = None,
    max_usd: Annotated[float | None, typer.Option(help="Stop before it costs more dollars than this.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show the progress, until it has ended.")] = False,
) -> None:
    """Judge the accepted records of a dataset, or those that you choose; their scores are stored with them."""
    chosen = {"origin": origin, "run_id": run}
    given = {name: value for name, value in chosen.items() if value is not None}
    ceilings = {"max_requests": max_requests, "max_tokens": max_tokens, "max_usd": max_usd}
    body = {
        "dataset_id": dataset,
        "teacher": choose_teacher(session.client, teacher),
        "filter": parse_json(filter, "filter") | given,
        "options": parse_json(options, "options"),
        "reject": reject,
        **{name: value for name, value in ceilings.items() if value is not None},
    }
    show_or_wait(session, session.client.start_judgement(**body), wait, "judgement", of_judgement, FIELDS)


@app.command("list")
@connected
def list_all(session: Session, dataset: Annotated[str | None, typer.Option(help="Of this dataset.")] = None) -> None:
    """All judgements, newest first."""
    rows = session.client.find("judgements", dataset_id=dataset)
    session.table(rows, ("id", "status", "stop_reason", "dataset_id", "teacher", "done_rows", "rows", "outcomes"))


@app.command("show")
@connected
def show(session: Session, id: str) -> None:
    """One judgement: its state, outcomes and costs."""
    session.show(session.client.get(id), FIELDS)


@app.command("wait")
@connected
def wait_for(session: Session, id: str) -> None:
    """Follow a judgement until it has ended. Exits 1 unless it succeeded."""
    finish(session, session.client.get(id), "judgement", of_judgement, FIELDS)


@app.command("pause")
@connected
def pause(session: Session, id: str) -> None:
    """Let a judgement rest after the calls in flight."""
    session.show(session.client.act(id, "pause"), FIELDS)


@app.command("resume")
@connected
def resume(session: Session, id: str) -> None:
    """Let a paused judgement go on."""
    session.show(session.client.act(id, "resume"), FIELDS)


@app.command("cancel")
@connected
def cancel(session: Session, id: str) -> None:
    """End a judgement; the verdicts that are there stay."""
    session.show(session.client.act(id, "cancel"), FIELDS)


@app.command("report")
@connected
def report(session: Session, id: str) -> None:
    """Outcomes, cost by step, and the scores of the judged records in numbers."""
    found = session.client.judgement_report(id)
    if session.json:
        print_json(found)
        return
    console().print(f"{found['done_rows']} of {found['rows']} judged, {found['rejected']} moved to the rejected ones")
    for outcome, count in sorted(found["outcomes"].items(), key=lambda item: -item[1]):
        console().print(f"{count:>8}  {outcome}")
    session.table(found["economy"]["steps"], ("name", "calls", "prompt_tokens", "completion_tokens", "cost_usd"))
    show_scores(session, found["quality"])
    if found["note"]:
        console().print(f"\n{found['note']}")
