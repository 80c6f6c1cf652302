"""Datasets and their records: create, show, change, delete."""

from typing import TypeVar

from sqlalchemy.orm import Session

from app import config
from app.access.service import Caller
from app.calls import store as calls
from app.datasets import store
from app.datasets.admission import Origin, admit
from app.datasets.schemas import (
    CompletionView,
    DatasetCreate,
    DatasetPatch,
    DecisionView,
    EncoderView,
    LineageView,
    ParentView,
    PreferenceView,
    RecordView,
    ReplyView,
    SeedsBody,
    StatsView,
    TaskView,
)
from app.errors import conflict, invalid
from app.jobs import active_jobs, queue
from app.persistence.ids import new_id
from app.synth.methods import task_families
from app.synth.seeds import SeedTask, bundled_tasks
from app.synth.types import Candidate
from app.tables.datasets import Dataset, Record


def create(session: Session, caller: Caller, body: DatasetCreate) -> Dataset:
    """Create a dataset with its seeds. Raises a 422 for a name that exists, an unknown encoder, or unusable seeds."""
    if store.name_exists(session, caller.project_id, body.name):
        raise invalid("/name", f"there is a dataset named {body.name!r} already; choose another name", "taken")
    encoder = body.encoder or config.settings().encoder
    check_encoder("/encoder", encoder)
    dataset = Dataset(
        id=new_id("ds"),
        project_id=caller.project_id,
        name=body.name,
        language=body.language,
        lexical_threshold=body.lexical_threshold,
        lexical_mode=body.lexical_mode,
        semantic_threshold=body.semantic_threshold,
        scope=body.scope,
        encoder=encoder,
        last_pool_position=0,
        seed_count=0,
        accepted_count=0,
        rejected_count=0,
        simulated=False,
    )
    session.add(dataset)
    session.flush()
    if body.seeds is not None:
        _add_seeds(session, dataset, body.seeds)
        # This process has no encoder: a worker encodes the seeds before the first run needs them.
        queue.notify_after_commit(session, queue.ENCODE, dataset.id)
    session.flush()
    session.refresh(dataset)
    return dataset


def _add_seeds(session: Session, dataset: Dataset, body: SeedsBody) -> None:
    tasks = bundled_tasks(body.bundled) if body.bundled else body.tasks
    max_seeds = config.limits().seeds_per_dataset
    if len(tasks) > max_seeds:
        raise invalid("/seeds/tasks", f"{len(tasks)} seeds; this installation allows {max_seeds}", "too_many")
    candidates = [row for task in tasks for row in build_seed_candidates(task)]
    # The dataset is new, so there is no pool to compare with: only copies among the seeds are rejected.
    outcome = admit(session, dataset, candidates, [None] * len(candidates), Origin("seed"), precheck=None)
    if outcome.accepted == 0:
        raise invalid("/seeds", "none of the seeds is usable: each is empty or a copy of another one", "empty")


def build_seed_candidates(task: SeedTask) -> list[Candidate]:
    """Return a candidate for each instance of the task, or one without input and output for a task without any."""
    if not task.instances:
        return [Candidate(task.instruction, is_classification=task.is_classification)]
    return [
        Candidate(task.instruction, instance.input, instance.output, is_classification=task.is_classification)
        for instance in task.instances
    ]


def check_encoder(pointer: str, name: str) -> None:
    """Raise a 422, with this pointer into the body, where no encoder with this name is configured."""
    configured = config.encoders()
    if name not in configured:
        raise invalid(pointer, f"no encoder {name!r} is configured; there are {', '.join(configured)}", "unknown")


def list_encoders() -> list[EncoderView]:
    """Return the configured encoders."""
    default = config.settings().encoder
    return [
        EncoderView(
            name=name,
            backend=encoder.backend,
            dtype=encoder.dtype,
            dimensions=encoder.dimensions,
            default=name == default,
        )
        for name, encoder in config.encoders().items()
    ]


def rename(session: Session, caller: Caller, id: str, body: DatasetPatch) -> Dataset:
    """Change the name of the dataset. Raises a 404 for an unknown id, and a 422 for a name that exists."""
    dataset = store.dataset(session, caller.project_id, id)
    if store.name_exists(session, caller.project_id, body.name, except_id=id):
        raise invalid("/name", f"there is a dataset named {body.name!r} already; choose another name", "taken")
    dataset.name = body.name
    return dataset


def delete(session: Session, caller: Caller, id: str) -> None:
    """Delete the dataset. Raises a 409 while jobs work on it, and where snapshots depend on it."""
    store.dataset(session, caller.project_id, id)
    # The lock keeps new admissions out while the dataset is checked and deleted.
    store.lock_dataset(session, id)
    if active_jobs.list_active_on_dataset(session, id):
        raise conflict(
            "The dataset has runs, imports, maintenance jobs or likelihood scores that have not ended. "
            "Cancel them first."
        )
    if active_jobs.keeps_dataset(session, id):
        raise conflict("The dataset has snapshots, which name it as their origin, so it can't be deleted.")
    store.delete_dataset(session, id)


def compute_stats(session: Session, caller: Caller, id: str) -> StatsView:
    """Count the rows of the dataset by their properties."""
    store.dataset(session, caller.project_id, id)

    def count_by(column) -> dict[str, int]:
        return {value: count for value, count in store.count_by(session, id, column) if value is not None}

    return StatsView(
        by_origin=count_by(Record.origin),
        by_status=count_by(Record.status),
        by_reason=count_by(Record.reason),
        by_method=count_by(Record.method),
        by_language=count_by(Record.language),
        simulated=count_by(Record.simulated).get(True, 0),
        sources=store.count_sources(session, id),
        preferences=store.count_preferences(session, id),
    )


def list_tasks() -> list[TaskView]:
    """Return the tasks of the template library, of which labelled rows may be."""
    families = [task_families.load_family(name) for name in task_families.FAMILIES]
    return [
        TaskView(
            name=family.name,
            summary=family.summary,
            fields=family.fields,
            phrasings={language: len(phrasings) for language, phrasings in family.phrasings.items()},
        )
        for family in families
    ]


View = TypeVar("View", bound=CompletionView)


def _completion_view(completion: object, view: type[View]) -> View:
    values = {name: getattr(completion, name) for name in view.model_fields}
    return view.model_validate(values | {"cost_usd": str(completion.cost_usd)})


def replies(session: Session, caller: Caller, id: str) -> list[ReplyView]:
    """Return the replies behind a record, accepted or rejected; none for one that was imported or is a seed."""
    keys = store.record(session, caller.project_id, id).lineage.get("completions", [])
    by_key = {completion.key: completion for completion in calls.completions(session, keys)}
    return [_completion_view(by_key[key], ReplyView) for key in keys if key in by_key]


def load_lineage(session: Session, caller: Caller, id: str) -> LineageView:
    """Return the record with its parents, children, paid replies, preference pairs and earlier decisions."""
    row = store.record(session, caller.project_id, id)
    stored_lineage = row.lineage
    completions = calls.completions(session, stored_lineage.get("completions", []))
    return LineageView(
        **RecordView.model_validate(row).model_dump(),
        parents=[ParentView.model_validate(r) for r in store.load_records(session, stored_lineage.get("parents", []))],
        children=[ParentView.model_validate(r) for r in store.list_children(session, row)],
        completions=[_completion_view(completion, CompletionView) for completion in completions],
        templates=stored_lineage.get("templates", []),
        preferences=[PreferenceView.model_validate(pair) for pair in store.list_preferences(session, row.id)],
        decisions=[
            DecisionView.model_validate(decision) for decision in store.list_replaced_decisions(session, row.id)
        ],
    )
