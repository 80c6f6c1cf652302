"""seedbed runs and seedbed methods."""

import json
from typing import Annotated

import typer

from app.cli import maintenance
from app.cli.jobs import show_or_wait, wait_for_end
from app.cli.progress import measure_run
from app.cli.quality import show_report
from app.cli.session import CommandError, Session, connected, parse_json
from app.client import Seedbed

app = typer.Typer(no_args_is_help=True)

FIELDS = (
    "id",
    "status",
    "outcome",
    "stop_reason",
    "error",
    "dataset_id",
    "method",
    "teacher",
    "mode",
    "paused_for",
    "resume_at",
    "target",
    "counts.accepted",
    "counts.rejected",
    "counts.rejected_by_reason",
    "usage.requests",
    "usage.prompt_tokens",
    "usage.cached_tokens",
    "usage.completion_tokens",
    "usage.cost_usd",
    "usage.certain_usd",
    "usage.possible_usd",
    "usage.held_usd",
    "account_id",
    "note",
    "queue.message",
)
Wait = Annotated[bool, typer.Option("--wait", help="Show the progress until the run ends.")]


@app.command("start")
@connected
def start(
    session: Session,
    dataset: str,
    target: Annotated[int | None, typer.Option(help="How many accepted records the run produces.")] = None,
    teacher: Annotated[
        str | None, typer.Option(help="A name from `seedbed teachers list`. Required if there are several teachers.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="A name from `seedbed methods`. The default is self_instruct.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="The teacher that judges, a name from `seedbed teachers list`.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The random seed. The same seed plans the same batches.")] = 0,
    options: Annotated[str, typer.Option(help="The options of the method, as JSON.")] = "{}",
    mode: Annotated[
        str, typer.Option(help="direct, or batch (the teacher's batch endpoint: cheaper, but takes up to a day).")
    ] = "direct",
    max_requests: Annotated[int | None, typer.Option(help="The most calls to make.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="The most tokens to use.")] = None,
    max_usd: Annotated[float | None, typer.Option(help="The most US dollars to spend.")] = None,
    max_candidates: Annotated[int | None, typer.Option(help="The most candidates to offer for admission.")] = None,
    max_seconds: Annotated[int | None, typer.Option(help="The most seconds to run.")] = None,
    wait: Wait = False,
) -> None:
    """Start a generation run on a dataset."""
    ceilings = {
        "max_requests": max_requests,
        "max_tokens": max_tokens,
        "max_usd": max_usd,
        "max_candidates": max_candidates,
        "max_seconds": max_seconds,
    }
    if asks_teacher(session.client, method):
        teacher = choose_teacher(session.client, teacher)
    # Unset options are left out, so that the service applies its own defaults.
    optional = {"method": method, "target": target, "teacher": teacher, "judge": judge, **ceilings}
    body = {"dataset_id": dataset, "seed": seed, "options": parse_json(options, "options")}
    body["mode"] = mode
    run = session.client.start_run(**body, **{name: value for name, value in optional.items() if value is not None})
    show_or_wait(session, run, wait, "run", measure_run, FIELDS)


# A refilter belongs to a run for the user, though it is a maintenance job for the service.
app.command("refilter")(maintenance.refilter)


@app.command("preview")
@connected
def preview(
    session: Session,
    dataset: str,
    target: Annotated[int | None, typer.Option(help="How many accepted records the whole run would produce.")] = None,
    rows: Annotated[int, typer.Option(min=1, max=100, help="How many records to make now.")] = 8,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Make no records. The forecast uses earlier runs.")
    ] = False,
    show_prompts: Annotated[
        bool, typer.Option("--show-prompts", help="Make no records. Show the complete requests of a first batch.")
    ] = False,
    teacher: Annotated[
        str | None, typer.Option(help="A name from `seedbed teachers list`. Required if there are several teachers.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="A name from `seedbed methods`. The default is self_instruct.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="The teacher that judges, a name from `seedbed teachers list`.")
    ] = None,
    options: Annotated[str, typer.Option(help="The options of the method, as JSON.")] = "{}",
) -> None:
    """Make a few records, and forecast the yield, calls, tokens, cost and time of the whole run."""
    optional = {"method": method, "target": target, "judge": judge}
    body = {"dataset_id": dataset, "options": parse_json(options, "options")}
    body |= {name: value for name, value in optional.items() if value is not None}
    if asks_teacher(session.client, method):
        body["teacher"] = choose_teacher(session.client, teacher)
    if show_prompts:
        _show_prompts(session, session.client.preview_run(**body, show_prompts=True)["prompts"])
        return
    answer = session.client.preview_run(**body, rows=rows, dry_run=dry_run)
    if not dry_run:
        wait_for_end(
            session, answer, "pilot", measure_run, ("id", "status", "stop_reason", "counts.accepted", "counts.rejected")
        )
        # The forecast uses what the preview run has spent, so it exists only after the run.
        answer = {"forecast": session.client.forecast(answer["id"])}
    _show_forecast(session, answer["forecast"])


def _show_prompts(session: Session, prompts: list[dict]) -> None:
    """Print each request as the teacher or the judge receives it. With --json it has the schema of its reply, too."""
    if session.json:
        session.show({"prompts": prompts}, ())
        return
    for prompt in prompts:
        settings = {"template": prompt["template"], "reply": prompt["reply_form"], **prompt["sampling"]}
        print(f"== {prompt['step']}, sent to the {prompt['asked']}")
        print(", ".join(f"{name} {value}" for name, value in settings.items() if value is not None))
        messages = [
            {"role": "system", "content": prompt["system"]},
            *prompt["turns"],
            {"role": "user", "content": prompt["user"]},
        ]
        for message in messages:
            print(f"\n-- {message['role']}\n{message['content']}")
        print()
    if not prompts:
        print("There are no requests: with these options the method calls no teacher.")


def _show_forecast(session: Session, forecast: dict | None) -> None:
    if forecast is None:
        raise CommandError(
            "There is no forecast, because no similar run has ended. Leave out --dry-run to make a few records."
        )
    if session.json:
        session.show(forecast, ())
        return
    # A forecast from few rows may lack some of these.
    names = ("yield", "requests", "tokens", "cost_usd", "seconds")
    session.table(
        [{"of": name, **forecast[name]} for name in names if forecast[name]], ("of", "estimate", "low", "high")
    )


def asks_teacher(client: Seedbed, method: str | None) -> bool:
    """Return whether a run of the method calls a teacher; true for an unknown method, which the service refuses."""
    return all(candidate["asks_teacher"] for candidate in client.methods() if candidate["name"] == method)


def choose_teacher(client: Seedbed, name: str | None) -> str:
    """Return the name of the teacher to call.

    Args:
        client: The client of the service.
        name: The teacher that the user chose, or None.

    Raises:
        CommandError: No name was chosen, and there is not exactly one teacher.
    """
    names = [teacher["name"] for teacher in client.teachers()]
    # A default among several teachers could spend money at the wrong one.
    if name is None and len(names) != 1:
        raise CommandError(
            f"Choose a teacher with --teacher. The configured teachers are: {', '.join(names) or 'none'}."
        )
    return name or names[0]


@app.command("list")
@connected
def list_all(
    session: Session, dataset: Annotated[str | None, typer.Option(help="Only runs of this dataset.")] = None
) -> None:
    """List all runs, newest first."""
    rows = session.client.find("runs", dataset_id=dataset)
    session.table(rows, ("id", "status", "stop_reason", "method", "teacher", "counts.accepted", "target"))


@app.command("show")
@connected
def show(session: Session, id: str) -> None:
    """Show one run: its state, counts and costs."""
    session.show(session.client.get(id), FIELDS)


@app.command("wait")
@connected
def wait_for(session: Session, id: str) -> None:
    """Show the progress of a run until it ends.

    The exit status is 0 with the whole target, 3 with fewer rows, 4 with none, and 1 if the run failed or is paused.
    """
    wait_for_end(session, session.client.get(id), "run", measure_run, FIELDS)


@app.command("cancel")
@connected
def cancel(session: Session, id: str) -> None:
    """Cancel a run. The records that it has made are kept."""
    session.show(session.client.act(id, "cancel"), FIELDS)


@app.command("pause")
@connected
def pause(session: Session, id: str) -> None:
    """Pause a run. Calls in flight are completed first."""
    session.show(session.client.act(id, "pause"), FIELDS)


@app.command("resume")
@connected
def resume(session: Session, id: str) -> None:
    """Resume a paused run."""
    session.show(session.client.act(id, "resume"), FIELDS)


@app.command("report")
@connected
def report(session: Session, id: str) -> None:
    """Show the report of a run: the cost of each step, the survival of each operation, the quality of the rows."""
    show_report(session, session.client.report(id))


@connected
def methods(
    session: Session,
    name: Annotated[str | None, typer.Argument(help="Show the options of this method.")] = None,
) -> None:
    """List the methods of a run, or the options of one method (for `runs start --options`)."""
    available = session.client.methods()
    if name is None:
        session.table(available, ("name", "draws_from", "asks_teacher", "summary"))
        return
    chosen_method = next((item for item in available if item["name"] == name), None)
    if chosen_method is None:
        raise CommandError(f"No method {name!r}; there are: {', '.join(item['name'] for item in available)}.")
    if session.json:
        session.show(chosen_method, ())
        return
    rows = (
        # As JSON, so that a default can be copied into --options.
        {"option": option, "default": json.dumps(spec.get("default"), ensure_ascii=False)} | spec
        for option, spec in chosen_method["options"]["properties"].items()
    )
    session.table(rows, ("option", "default", "description"))
