"""One scoring from claim to end: rows into a file, the recipe in a child process, its scores onto the records."""

import json
import logging
import shutil
from pathlib import Path

from app import config
from app.db import transaction
from app.finetunes.training import Cancelled, TrainingFailed, explain, follow_to_end, patiently, write_job
from app.jobs import event_log
from app.jobs.child import Child
from app.jobs.leases import Claim, Heartbeat, LeaseLost, claim, extend, fenced, heartbeat, release
from app.scorings import store
from app.synth.formats import to_messages
from app.tables.scorings import Scoring
from app.training_jobs.jobs import ScoreJob

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 3
RECIPE = "workers.recipes.score"
SCORES = ("perplexity", "ifd")


def score(id: str) -> None:
    """Work off a scoring that nobody else works on. Call it from a thread that lives until it is done."""
    taken = _claim(id)
    if taken is None:
        return
    work = Path(config.settings().home).resolve() / "work" / f"{taken.id}-{taken.token}"
    try:
        with heartbeat(taken) as beat:
            _score(taken, beat, work)
    except LeaseLost:
        log.warning("%s has another owner now; this worker lets go", id)
    except (SystemExit, KeyboardInterrupt):
        _give_back(taken)
        raise
    except Cancelled:
        _end(taken, "cancelled", "cancelled")
    except TrainingFailed as error:
        _end(taken, "failed", error.reason, error.words)
    except Exception as error:
        log.exception("%s failed", id)
        _end(taken, "failed", *explain(error))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _claim(id: str) -> Claim | None:
    with transaction() as session:
        row = store.claimable(session, id)
        if row is None:
            return None
        if row.attempt >= MOST_ATTEMPTS:
            release(row)
            row.move("failed", "worker_lost", f"{row.attempt} workers were lost while scoring; see their logs.")
        else:
            row.done_rows = 0
            if row.status == "queued":
                row.move("running")
        session.flush()
        event_log.emit_status(session, row)
        return None if row.ended else claim(session, row)


def _give_back(taken: Claim) -> None:
    """This worker is being stopped, and the scoring is not to blame: the attempt does not count."""
    with transaction() as session:
        row = fenced(session, taken)
        row.attempt -= 1
        release(row)


def _score(taken: Claim, beat: Heartbeat, work: Path) -> None:
    child = Child(patiently(_prepare, taken.id, work), RECIPE)
    try:
        summary = follow_to_end(taken, child, lambda event: patiently(_note, taken, beat, event))
    finally:
        child.end()
    patiently(extend, taken)
    patiently(_close, taken, "succeeded", "completed", summary=summary)


def _prepare(id: str, work: Path) -> Path:
    """The rows as messages, and the job that names them."""
    work.mkdir(parents=True, exist_ok=True)
    with transaction() as session, (work / "rows.jsonl").open("w", encoding="utf-8") as out:
        scoring = session.get(Scoring, id)
        for row in store.rows(session, scoring):
            out.write(json.dumps({"id": row.id, **to_messages(row)}) + "\n")
    base_model = config.base_models().get(scoring.base_model)
    if base_model is None:
        words = f"The worker's configuration has no base model {scoring.base_model!r}, though the service's has."
        raise TrainingFailed("base_model_not_found", words)
    content = {
        "rows": str(work / "rows.jsonl"),
        "base_model": base_model.source(),
        "max_length": scoring.max_length,
    }
    return write_job(content, ScoreJob, work / "job.json")


def _note(taken: Claim, beat: Heartbeat, event: dict) -> None:
    """Keep one event: scores on their records, the rest in the log. Looks for a cancellation, too."""
    if beat.lost.is_set():
        raise LeaseLost(taken.id)
    with transaction() as session:
        row = fenced(session, taken)
        if row.status == "cancelling":
            raise Cancelled
        if event.get("event") == "scores":
            scores = event["scores"]
            store.add_scores(session, row.dataset_id, {one["id"]: _named(one) for one in scores})
            row.done_rows += len(scores)
            event_log.emit(session, row, "progress", done_rows=row.done_rows, rows=row.rows)
        elif event.get("event") in ("stage", "base_model"):
            told = {name: value for name, value in event.items() if name != "event"}
            event_log.emit(session, row, event["event"], **told)


def _named(one: dict) -> dict[str, float]:
    return {f"local.{name}": one[name] for name in SCORES if one[name] is not None}


def _close(taken: Claim, status: str, reason: str, words: str | None = None, summary: dict | None = None) -> None:
    with transaction() as session:
        row = fenced(session, taken)
        row.summary = summary
        release(row)
        row.move(status, reason, words)
        session.flush()
        event_log.emit_status(session, row)


def _end(taken: Claim, status: str, reason: str, words: str | None = None) -> None:
    try:
        patiently(_close, taken, status, reason, words)
    except LeaseLost:
        log.warning("%s has another owner now; this worker lets go", taken.id)
