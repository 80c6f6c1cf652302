"""seedbed runs."""

import json
from typing import Annotated

import typer

from app.cli import reviews
from app.cli.jobs import finish, show_or_wait
from app.cli.progress import of_run
from app.cli.quality import show_report
from app.cli.session import CommandError, Session, connected, parse_json
from app.client import Seedbed

app = typer.Typer(no_args_is_help=True)

FIELDS = (
    "id",
    "status",
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
Wait = Annotated[bool, typer.Option("--wait", help="Show the progress, until it has ended.")]


@app.command("start")
@connected
def start(
    session: Session,
    dataset: str,
    target: Annotated[int | None, typer.Option(help="How many accepted records to grow.")] = None,
    teacher: Annotated[str | None, typer.Option(help="A name from `seedbed teachers list`, if several.")] = None,
    method: Annotated[
        str | None, typer.Option(help="How to grow them: a name from `seedbed methods`; self_instruct unless given.")
    ] = None,
    judge: Annotated[str | None, typer.Option(help="Another teacher that judges.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed plans the same batches.")] = 0,
    options: Annotated[str, typer.Option(help="Options of the method, as JSON.")] = "{}",
    mode: Annotated[str, typer.Option(help="direct, or batch: cheaper, and within a day.")] = "direct",
    max_requests: Annotated[int | None, typer.Option(help="Stop before more teacher calls than this.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Stop before more tokens than this.")] = None,
    max_usd: Annotated[float | None, typer.Option(help="Stop before it costs more dollars than this.")] = None,
    max_candidates: Annotated[int | None, typer.Option(help="Stop after this many offered records.")] = None,
    max_seconds: Annotated[int | None, typer.Option(help="Stop after this time.")] = None,
    wait: Wait = False,
) -> None:
    """Start a run on a dataset."""
    ceilings = {
        "max_requests": max_requests,
        "max_tokens": max_tokens,
        "max_usd": max_usd,
        "max_candidates": max_candidates,
        "max_seconds": max_seconds,
    }
    if asks_teacher(session.client, method):
        teacher = choose_teacher(session.client, teacher)
    optional = {"method": method, "target": target, "teacher": teacher, "judge": judge, **ceilings}
    body = {"dataset_id": dataset, "seed": seed, "options": parse_json(options, "options")}
    body["mode"] = mode
    run = session.client.start_run(**body, **{name: value for name, value in optional.items() if value is not None})
    show_or_wait(session, run, wait, "run", of_run, FIELDS)


app.command("refilter")(reviews.refilter)


@app.command("preview")
@connected
def preview(
    session: Session,
    dataset: str,
    target: Annotated[int | None, typer.Option(help="How many accepted records the whole run is to have.")] = None,
    rows: Annotated[int, typer.Option(min=1, max=100, help="How many of them to make now.")] = 8,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Make nothing: forecast from earlier runs.")] = False,
    show_prompts: Annotated[
        bool, typer.Option("--show-prompts", help="Make nothing: show the requests of a first batch, whole.")
    ] = False,
    teacher: Annotated[str | None, typer.Option(help="A name from `seedbed teachers list`, if several.")] = None,
    method: Annotated[
        str | None, typer.Option(help="A name from `seedbed methods`; self_instruct unless given.")
    ] = None,
    judge: Annotated[str | None, typer.Option(help="Another teacher that judges.")] = None,
    options: Annotated[str, typer.Option(help="Options of the method, as JSON.")] = "{}",
) -> None:
    """Make a few rows of a run, and forecast the whole: yield, calls, tokens, dollars, time."""
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
        finish(session, answer, "pilot", of_run, ("id", "status", "stop_reason", "counts.accepted", "counts.rejected"))
        answer = {"forecast": session.client.forecast(answer["id"])}
    _show_forecast(session, answer["forecast"])


def _show_prompts(session: Session, prompts: list[dict]) -> None:
    """Each request as the teacher or the judge gets it; as JSON with the schema of its reply."""
    if session.json:
        session.show({"prompts": prompts}, ())
        return
    for prompt in prompts:
        about = {"template": prompt["template"], "reply": prompt["reply_form"], **prompt["sampling"]}
        print(f"== {prompt['step']}, asked of the {prompt['asked']}")
        print(", ".join(f"{name} {value}" for name, value in about.items() if value is not None))
        messages = [
            {"role": "system", "content": prompt["system"]},
            *prompt["turns"],
            {"role": "user", "content": prompt["user"]},
        ]
        for message in messages:
            print(f"\n-- {message['role']}\n{message['content']}")
        print()
    if not prompts:
        print("No request: this method asks nobody with these options.")


def _show_forecast(session: Session, forecast: dict | None) -> None:
    if forecast is None:
        raise CommandError("There is nothing to go by: no run of this kind has ended. Leave out --dry-run for a pilot.")
    if session.json:
        session.show(forecast, ())
        return
    names = ("yield", "requests", "tokens", "cost_usd", "seconds")
    session.table(
        [{"of": name, **forecast[name]} for name in names if forecast[name]], ("of", "estimate", "low", "high")
    )


def asks_teacher(client: Seedbed, method: str | None) -> bool:
    """Whether a run needs a teacher. An unknown method is for the service to refuse."""
    return all(candidate["asks_teacher"] for candidate in client.methods() if candidate["name"] == method)


def choose_teacher(client: Seedbed, name: str | None) -> str:
    """The named teacher, else the only one. Among several the caller has to choose, since a call costs money."""
    names = [teacher["name"] for teacher in client.teachers()]
    if name is None and len(names) != 1:
        raise CommandError(f"Name a teacher with --teacher; configured are: {', '.join(names) or 'none'}.")
    return name or names[0]


@app.command("list")
@connected
def list_all(session: Session, dataset: Annotated[str | None, typer.Option(help="Of this dataset.")] = None) -> None:
    """All runs, newest first."""
    rows = session.client.find("runs", dataset_id=dataset)
    session.table(rows, ("id", "status", "stop_reason", "method", "teacher", "counts.accepted", "target"))


@app.command("show")
@connected
def show(session: Session, id: str) -> None:
    """One run: its state, counts and costs."""
    session.show(session.client.get(id), FIELDS)


@app.command("wait")
@connected
def wait_for(session: Session, id: str) -> None:
    """Follow a run until it has ended. Exits 1 unless it succeeded."""
    finish(session, session.client.get(id), "run", of_run, FIELDS)


@app.command("cancel")
@connected
def cancel(session: Session, id: str) -> None:
    """End a run; what it has made stays."""
    session.show(session.client.act(id, "cancel"), FIELDS)


@app.command("pause")
@connected
def pause(session: Session, id: str) -> None:
    """Let a run rest after the calls in flight."""
    session.show(session.client.act(id, "pause"), FIELDS)


@app.command("resume")
@connected
def resume(session: Session, id: str) -> None:
    """Let a paused run go on."""
    session.show(session.client.act(id, "resume"), FIELDS)


@app.command("report")
@connected
def report(session: Session, id: str) -> None:
    """What a run is worth: cost by step, survival by operation, the quality of its rows in numbers."""
    show_report(session, session.client.report(id))


@connected
def methods(
    session: Session,
    name: Annotated[str | None, typer.Argument(help="Show the options of this one.")] = None,
) -> None:
    """The ways of making data; with a name, the options that `runs start --options` takes for it."""
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
        {"option": option, "default": json.dumps(spec.get("default"), ensure_ascii=False)} | spec
        for option, spec in chosen_method["options"]["properties"].items()
    )
    session.table(rows, ("option", "default", "description"))
