"""The fine-tune as a type of job: fetch the snapshot, run the recipe in a child process, store its events and files."""

from pathlib import Path

from app import config
from app.finetunes import store
from app.jobs import event_log, queue, recipe
from app.jobs.kinds import Explanation, JobFailed, JobKind
from app.jobs.runner import RunningJob
from app.persistence import files
from app.persistence.db import transaction
from app.snapshots import export
from app.snapshots import store as snapshots
from app.snapshots.rows import SnapshotRow
from app.tables.finetunes import FineTune, Metric
from app.training_jobs.jobs import FineTuneJob, JobError, JobModel, parse_job

# The recipe is named, not imported: it loads torch, which must stay out of this process.
RECIPE = "workers.recipes.sft"
# The values that a row of metrics has; the step is a column.
METRICS = ("epoch", "loss", "learning_rate", "grad_norm", "tokens", "total_steps")
LOGGED_EVENTS = ("stage", "progress", "metrics", "base_model", "evaluation")


def train(job: RunningJob) -> None:
    """Perform one attempt at a fine-tune.

    Raises:
        JobFailed: The job or its snapshot is not valid, or the recipe failed.
    """
    # A lost worker may have stored some of its artifacts, which no row names.
    files.delete(_folder(job.id))
    with recipe.working_folder(job) as work:
        row, snapshot = job.retry_until_database_is_back(_read, job.id)
        job_file = _prepare(job, row, snapshot, work)
        summary = recipe.run(
            job, job_file, RECIPE, lambda event: job.retry_until_database_is_back(_store_event, job, event)
        )
        # A large upload may take longer than a lease, so it starts with a new one.
        job.retry_until_database_is_back(job.extend)
        artifacts = _store_artifacts(job, work / "out" / "artifacts")
        job.retry_until_database_is_back(_succeed, job, summary, artifacts)


def _read(id: str) -> tuple[FineTune, SnapshotRow]:
    with transaction() as session:
        row = session.get(FineTune, id)
        return row, snapshots.load_snapshot_of_job(session, row.snapshot_id)


def _prepare(job: RunningJob, row: FineTune, snapshot: SnapshotRow, work: Path) -> Path:
    """Fetch the files of the snapshot, write the job file, and return its path."""
    # Service and worker may run on different machines with different configurations.
    base_model = config.base_models().get(row.base_model)
    if base_model is None:
        message = f"The worker's configuration has no base model {row.base_model!r}, though the service's has."
        raise JobFailed("base_model_not_found", message)
    local_paths = {}
    for file in snapshot.files:
        job.check()
        if file["form"] == "messages":
            local_paths[file["split"]] = _fetch(snapshot, file, work)
    content = {
        "output_dir": str(work / "out"),
        "files": local_paths,
        "base_model": base_model.source(),
        "method": row.method,
        "hyperparameters": row.hyperparameters,
        "seed": row.seed,
        "simulated": row.simulated,
    }
    return write_job(content, FineTuneJob, work / "job.json")


def write_job(content: dict, model: type[JobModel], path: Path) -> Path:
    """Write the job file of a recipe. Raises JobFailed for a job that the recipe would refuse."""
    try:
        job = parse_job(content, model)
    except JobError as error:
        raise JobFailed("invalid_job", str(error)) from error
    path.write_text(job.model_dump_json(exclude_unset=True), "utf-8")
    return path


def _fetch(snapshot: SnapshotRow, file: dict, work: Path) -> str:
    """Copy a file from the storage into the working folder, check its digest, and return the local path."""
    local = str(work / file["name"])
    try:
        digest = files.fetch_file(export.file_path(snapshot.id, file["name"]), local)
    except FileNotFoundError:
        message = (
            f"{file['name']} is not in the storage of the worker. Check that worker and service use the same storage."
        )
        raise JobFailed("snapshot_damaged", message) from None
    # Training on damaged rows would not fail, only give a worse model.
    if digest != file["sha256"]:
        raise JobFailed(
            "snapshot_damaged",
            f"{file['name']} in the storage is damaged: its digest is not that of the snapshot. Export it again.",
        )
    return local


def _store_event(job: RunningJob, event: dict) -> None:
    """Store one event of the recipe: as a row of metrics, in the row of the fine-tune, or in its log."""
    kind = event.get("event")
    values = {name: value for name, value in event.items() if name != "event"}
    with job.transaction() as (session, row):
        if kind == "stage":
            # The steps of the stage before have another total.
            row.stage, row.step, row.total_steps = event["stage"], None, None
        elif kind in ("progress", "metrics"):
            row.step, row.total_steps = event["step"], event.get("total_steps")
        elif kind == "base_model":
            row.model = values
        elif kind == "evaluation":
            row.evaluations = [*row.evaluations, values]
        if kind == "metrics":
            metrics = {name: event[name] for name in METRICS if name in event}
            session.add(Metric(finetune_id=row.id, attempt=job.claim.attempt, step=event["step"], values=metrics))
        if kind in LOGGED_EVENTS:
            event_log.emit(session, row, kind, **values)


def _folder(id: str) -> str:
    return f"finetunes/{id}"


def _attempt_folder(job: RunningJob) -> str:
    """The folder of one claim: a worker that lost its claim must not overwrite the files of the next worker."""
    return f"{_folder(job.id)}/{job.claim.token}"


def _store_artifacts(job: RunningJob, artifacts: Path) -> list[dict]:
    """Copy the artifacts into the storage and return their entries. After an error none of them is kept."""
    try:
        return [_store_artifact(job, path, artifacts) for path in sorted(artifacts.rglob("*")) if path.is_file()]
    except BaseException:
        files.delete(_attempt_folder(job))
        raise


def _store_artifact(job: RunningJob, path: Path, artifacts: Path) -> dict:
    job.check()
    name = path.relative_to(artifacts).as_posix()
    path_in_storage = f"{_attempt_folder(job)}/{name}"
    stored = files.store_file(str(path), path_in_storage)
    return {"name": name, "bytes": stored.bytes, "sha256": stored.sha256, "path": path_in_storage}


def _succeed(job: RunningJob, summary: dict, artifacts: list[dict]) -> None:
    with job.transaction() as (session, row):
        row.summary, row.artifacts = summary, artifacts
        job.succeed(session, row)


def explain(error: Exception) -> Explanation:
    """Return the reason and the message for an unexpected error.

    The text of the error is not part of the message, since it may contain paths and addresses. It is in the log.
    """
    code = getattr(error, "errno", None)
    # Another attempt would meet the same full disk, so these errors are final.
    if code in files.FULL:
        message = "The disk is full. Free some space, then start the job again."
        return Explanation("storage_full", message, final=True)
    if code in files.UNWRITABLE:
        message = "A directory is not writable. Check the permissions of SEEDBED_HOME and of the storage."
        return Explanation("storage_unwritable", message, final=True)
    message = f"The training failed ({type(error).__name__}). The log of the worker has the details."
    return Explanation("training_failed", message, final=True)


def reset(session, row: FineTune) -> None:
    """Clear the progress and the results of the last attempt before a new one."""
    row.stage = row.step = row.total_steps = row.model = None
    row.evaluations = []
    store.delete_metrics(session, row.id)


def discard_files(id: str) -> None:
    """Delete the working folders and the stored artifacts of a fine-tune that did not succeed."""
    recipe.remove_folders(id)
    files.delete(_folder(id))


KIND = JobKind(
    name="fine-tune",
    table=FineTune,
    task=queue.FINETUNE,
    perform=train,
    explain=explain,
    max_attempts=3,
    reset=reset,
    discard_files=discard_files,
)
