"""One fine-tune from claim to artifacts: fetch the snapshot, run the recipe in a child, keep what it reports."""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sqlalchemy.exc import OperationalError

from app import config, storage
from app.db import transaction
from app.finetunes import store
from app.jobs import event_log
from app.jobs.child import Child
from app.jobs.leases import Claim, Heartbeat, LeaseLost, claim, extend, fenced, heartbeat, release
from app.snapshots import export
from app.tables.finetunes import FineTune, Metric
from app.tables.snapshots import Snapshot
from app.training_jobs.jobs import FineTuneJob, JobError, JobModel, parse_job

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 3
LOOK_SECONDS = 1.0
METRICS = ("epoch", "loss", "learning_rate", "grad_norm", "tokens", "total_steps")

Result = TypeVar("Result")


class Cancelled(Exception):
    """The row is cancelling."""


@dataclass
class TrainingFailed(Exception):
    """The training can't succeed. `reason` becomes the stop_reason, `words` the error."""

    reason: str
    words: str


def train(id: str) -> None:
    """Work off a fine-tune that nobody else works on. Call it from a thread that lives until it is done."""
    taken = _claim(id)
    if taken is None:
        return
    work = _folder(taken)
    try:
        with heartbeat(taken) as beat:
            _train(taken, beat, work)
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
            row.move("failed", "worker_lost", f"{row.attempt} workers were lost while training; see their logs.")
        else:
            row.stage = row.step = row.total_steps = row.model = None
            row.evaluations = []
            store.forget_metrics(session, id)
            if row.status == "queued":
                row.move("running")
        session.flush()
        event_log.emit_status(session, row)
        return None if row.ended else claim(session, row)


def _give_back(taken: Claim) -> None:
    """This worker is being stopped, and the training is not to blame: the attempt does not count."""
    with transaction() as session:
        row = fenced(session, taken)
        row.attempt -= 1
        release(row)


def _folder(taken: Claim) -> Path:
    """The working directory. What an attempt that was killed on this machine left goes."""
    work = Path(config.settings().home).resolve() / "work"
    for left in work.glob(f"{taken.id}-*"):
        shutil.rmtree(left, ignore_errors=True)
    return work / f"{taken.id}-{taken.token}"


def _train(taken: Claim, beat: Heartbeat, work: Path) -> None:
    child = Child(_prepare(*patiently(_ordered, taken.id), work))
    try:
        summary = follow_to_end(taken, child, lambda event: _kept(taken, beat, event))
    finally:
        child.end()
    patiently(extend, taken)
    artifacts = _keep(taken, work / "out" / "artifacts")
    patiently(_close, taken, "succeeded", "completed", summary=summary, artifacts=artifacts)


def patiently(action: Callable[..., Result], *args, **options) -> Result:
    """A short transaction, made when the database is there: a training of hours outlives a restart of it."""
    while True:
        try:
            return action(*args, **options)
        except OperationalError as error:
            log.warning("the database is away, the training goes on: %s", error)
            time.sleep(LOOK_SECONDS)


def _ordered(id: str) -> tuple[FineTune, Snapshot]:
    with transaction() as session:
        row = session.get(FineTune, id)
        return row, session.get(Snapshot, row.snapshot_id)


def _prepare(row: FineTune, snapshot: Snapshot, work: Path) -> Path:
    """The snapshot's files, checked against their digests, and the job that names them."""
    base_model = config.base_models().get(row.base_model)
    if base_model is None:
        words = f"The worker's configuration has no base model {row.base_model!r}, though the service's has."
        raise TrainingFailed("base_model_not_found", words)
    files = {}
    for file in snapshot.files:
        if file["form"] != "messages":
            continue
        local = work / file["name"]
        try:
            digest = storage.copy_out(export.path(snapshot.id, file["name"]), str(local))
        except FileNotFoundError:
            words = f"{file['name']} is not in the storage of the worker. Is it the same as the service's?"
            raise TrainingFailed("snapshot_damaged", words) from None
        if digest != file["sha256"]:
            raise TrainingFailed("snapshot_damaged", f"{file['name']} in the storage is not what the snapshot says.")
        files[file["split"]] = str(local)
    content = {
        "output_dir": str(work / "out"),
        "files": files,
        "base_model": base_model.source(),
        "method": row.method,
        "hyperparameters": row.hyperparameters,
        "seed": row.seed,
        "simulated": row.simulated,
    }
    return write_job(content, FineTuneJob, work / "job.json")


def write_job(content: dict, model: type[JobModel], path: Path) -> Path:
    """Write the job file of a recipe. Raises TrainingFailed for a job that the recipe would refuse."""
    try:
        job = parse_job(content, model)
    except JobError as error:
        raise TrainingFailed("invalid_job", str(error)) from error
    path.write_text(job.model_dump_json(exclude_unset=True), "utf-8")
    return path


def _kept(taken: Claim, beat: Heartbeat, event: dict) -> None:
    if beat.lost.is_set():
        raise LeaseLost(taken.id)
    patiently(_note, taken, event)


def follow_to_end(taken: Claim, child: Child, keep: Callable[[dict], None]) -> dict:
    """Hand the child's events to `keep` until it ends; its summary. Raises TrainingFailed for every other end."""
    summary, failure = None, None
    while (event := child.next_event(LOOK_SECONDS)) is not None:
        keep(event)
        if event.get("event") == "done":
            summary = {name: value for name, value in event.items() if name != "event"}
        if event.get("event") == "error":
            failure = TrainingFailed(str(event.get("kind", "training_failed")), str(event.get("message", "")))
    status = child.wait()
    if failure is not None:
        log.error("%s: %s\n%s", taken.id, failure.words, child.last_words)
        if failure.reason == "unexpected":
            failure = TrainingFailed("training_failed", f"{failure.words} Its last words: {child.last_words[-800:]}")
        raise failure
    if status < 0:
        words = f"The training process was killed by signal {-status}; most often the machine ran out of memory."
        raise TrainingFailed("child_killed", words)
    if status != 0 or summary is None:
        raise TrainingFailed("training_failed", f"The training process ended with {status}: {child.last_words[-800:]}")
    return summary


def _note(taken: Claim, event: dict) -> None:
    """Keep one event: as a metrics row, in the fine-tune's row, and in its log. Looks for a cancellation, too."""
    kind = event.get("event")
    with transaction() as session:
        row = fenced(session, taken)
        if row.status == "cancelling":
            raise Cancelled
        if kind == "stage":
            row.stage, row.step, row.total_steps = event["stage"], None, None
        elif kind in ("progress", "metrics"):
            row.step, row.total_steps = event["step"], event.get("total_steps")
        elif kind == "base_model":
            row.model = {name: value for name, value in event.items() if name != "event"}
        elif kind == "evaluation":
            row.evaluations = [*row.evaluations, {name: value for name, value in event.items() if name != "event"}]
        if kind == "metrics":
            values = {name: event[name] for name in METRICS if name in event}
            session.add(Metric(finetune_id=row.id, attempt=taken.attempt, step=event["step"], values=values))
        if kind in ("stage", "progress", "metrics", "base_model", "evaluation"):
            event_log.emit(session, row, kind, **{name: value for name, value in event.items() if name != "event"})


def _keep(taken: Claim, artifacts: Path) -> list[dict]:
    """Copy the artifacts below the claim's own token: a late owner never writes over its successor's."""
    kept = []
    for path in sorted(one for one in artifacts.rglob("*") if one.is_file()):
        name = path.relative_to(artifacts).as_posix()
        place = f"finetunes/{taken.id}/{taken.token}/{name}"
        stored = storage.copy_in(str(path), place)
        kept.append({"name": name, "bytes": stored.bytes, "sha256": stored.sha256, "path": place})
    return kept


def explain(error: Exception) -> tuple[str, str]:
    """(stop_reason, words) for a fault of ours. What the error says of paths and addresses stays in the log."""
    code = getattr(error, "errno", None)
    if code in storage.FULL:
        return "storage_full", "The disk is full. Make room, then start the fine-tune again."
    if code in storage.UNWRITABLE:
        return "storage_unwritable", "A directory can't be written; check the rights of SEEDBED_HOME and the storage."
    return "training_failed", f"The training failed ({type(error).__name__}). The log of the worker says more."


def _close(taken: Claim, status: str, reason: str, words: str | None = None, **left) -> None:
    """End the row, with what the training left behind."""
    with transaction() as session:
        row = fenced(session, taken)
        for name, value in left.items():
            setattr(row, name, value)
        release(row)
        # A cancellation that came while the training failed by itself is still a failure to tell.
        row.move(status, reason, words)
        session.flush()
        event_log.emit_status(session, row)


def _end(taken: Claim, status: str, reason: str, words: str | None = None) -> None:
    try:
        patiently(_close, taken, status, reason, words)
    except LeaseLost:
        log.warning("%s has another owner now; this worker lets go", taken.id)
