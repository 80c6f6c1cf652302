"""seedbed maintenance, evaluation-sets, and the commands that order a maintenance job or look at what was decided."""

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from app.cli.jobs import show_or_wait
from app.cli.progress import measure_maintenance_job
from app.cli.session import Session, connected, parse_json

app = typer.Typer(no_args_is_help=True)
evaluation_sets = typer.Typer(no_args_is_help=True)

FIELDS = (
    *("id", "kind", "status", "stop_reason", "error", "dataset_id", "run_id", "done_rows", "rows"),
    "queue.message",
    *("result.applied", "result.accepted_before", "result.accepted_after", "result.moved_in", "result.moved_out"),
    *("result.other_reason", "result.unanswered", "result.contaminated_rows", "result.by_kind", "result.by_set"),
    *("result.items", "result.items_too_short_for_ngrams", "result.action", "result.before", "result.after"),
)
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Show the progress until the job ends.")]


def _follow(session: Session, maintenance_job: dict, wait: bool) -> None:
    fields = [name for name in FIELDS if not name.startswith("result.")] if not wait else FIELDS
    show_or_wait(session, maintenance_job, wait, maintenance_job["kind"], measure_maintenance_job, fields)


@connected
def refilter(
    session: Session,
    run: Annotated[str, typer.Argument(help="The id of a run that has ended.")],
    lexical: Annotated[float | None, typer.Option(help="The new lexical threshold.")] = None,
    semantic: Annotated[float | None, typer.Option(help="The new semantic threshold.")] = None,
    rules: Annotated[str | None, typer.Option(help="The new rules: the name of a preset, or a list as JSON.")] = None,
    minimum_scores: Annotated[
        str, typer.Option(help='The lowest scores to accept, as JSON, for example {"judge.overall": 4}.')
    ] = "{}",
    target: Annotated[
        int | None, typer.Option(help="The most rows to accept. The default is the target of the run.")
    ] = None,
    apply: Annotated[
        bool,
        typer.Option(
            "--apply", help="Store the new decisions. Without this option the command only reports what would change."
        ),
    ] = False,
    wait: Wait = True,
) -> None:
    """Decide again on the candidates of a run by other thresholds or rules. No teacher is called."""
    settings = {
        "lexical_threshold": lexical,
        "semantic_threshold": semantic,
        "rules": parse_json(rules, "rules") if rules and rules.lstrip().startswith("[") else rules,
        "minimum_scores": parse_json(minimum_scores, "minimum-scores"),
        "target": target,
        "apply": apply,
    }
    _follow(session, session.client.refilter(run, **settings), wait)


@connected
def decontaminate(
    session: Session,
    dataset: str,
    evaluation_sets: Annotated[list[str], typer.Argument(help="The ids of the evaluation sets.")],
    ngram: Annotated[
        int, typer.Option(help="The number of words in sequence that make a match. 0 turns this search off.")
    ] = 13,
    semantic: Annotated[
        float, typer.Option(help="The cosine of the embeddings that makes a match. 0 turns this search off.")
    ] = 0.9,
    action: Annotated[str, typer.Option(help="What to do with matching rows: report, flag or drop.")] = "report",
    wait: Wait = True,
) -> None:
    """Search the accepted rows of a dataset for the items of evaluation sets."""
    settings = {"ngram": ngram or None, "semantic_threshold": semantic or None, "action": action}
    _follow(session, session.client.decontaminate(dataset, evaluation_sets, **settings), wait)


@connected
def reencode(
    session: Session,
    dataset: str,
    encoder: Annotated[
        str | None, typer.Option(help="A name from `seedbed encoders`. The default is the encoder of the dataset.")
    ] = None,
    wait: Wait = True,
) -> None:
    """Compute the embeddings of all rows of a dataset again."""
    _follow(session, session.client.reencode(dataset, encoder), wait)


@connected
def neighbours(
    session: Session,
    record: str,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many rows to show at most.")] = 10,
) -> None:
    """List the accepted rows that are most similar to a record, with the lexical and the semantic score."""
    session.table(session.client.neighbours(record, limit), ("id", "lexical", "semantic", "text"))


@connected
def encoders(session: Session) -> None:
    """List the embedding models that the operator has configured."""
    session.table(session.client.encoders(), ("name", "backend", "dtype", "dimensions", "default"))


@app.command("list")
@connected
def list_all(session: Session, dataset: Annotated[str | None, typer.Option(help="Of this dataset.")] = None) -> None:
    """All maintenance jobs, newest first."""
    rows = session.client.find("maintenance-jobs", dataset_id=dataset)
    session.table(rows, ("id", "kind", "status", "stop_reason", "dataset_id", "done_rows", "rows"))


@app.command("show")
@connected
def show(session: Session, id: str) -> None:
    """One maintenance job: its state, and what came of it."""
    session.show(session.client.get(id), FIELDS)


@app.command("cancel")
@connected
def cancel(session: Session, id: str) -> None:
    """End a maintenance job; nothing of it stays."""
    session.show(session.client.act(id, "cancel"), FIELDS)


@app.command("matches")
@connected
def list_matches(
    session: Session, id: str, limit: Annotated[int, typer.Option(min=1, help="How many matches to show at most.")] = 20
) -> None:
    """List the matches of a decontamination, with the matching spans of text."""
    matches = islice(session.client.matches(id), limit)
    session.table(matches, ("record_id", "kind", "score", "field", "span", "item_text"))


@evaluation_sets.command("add")
@connected
def add_set(
    session: Session, name: str, file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)]
) -> None:
    """Upload an evaluation set as JSONL. Each line is {text}, {question} or {instruction, input}."""
    session.show(session.client.add_evaluation_set(name, file), ("id", "name", "rows", "digest"))


@evaluation_sets.command("list")
@connected
def list_sets(session: Session) -> None:
    """List all evaluation sets, newest first."""
    session.table(session.client.find("evaluation-sets"), ("id", "name", "rows", "created_at"))
