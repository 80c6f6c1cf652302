"""What a run's batches start from, in Postgres: the kernel's `Material` over one dataset."""

import random
from collections.abc import Mapping, Sequence

import numpy as np
from sqlalchemy.orm import Session

from app.datasets import sampling_queries
from app.datasets import store as dataset_store
from app.datasets.rows import DatasetRow, RecordRow
from app.runs import store
from app.synth.methods.material import Material, Positions, draw_plan, load_plan
from app.synth.methods.parents import ParentFilter
from app.synth.methods.registry import METHODS
from app.synth.quality.options import MethodOptions
from app.synth.types import Batch, Demonstration, Instance, Parent, Source
from app.tables.runs import Run


def options_of(run: Run) -> MethodOptions:
    return METHODS[run.method].options.model_validate(run.options)


def plan(session: Session, run: Run, dataset: DatasetRow, size: int, rng: random.Random) -> dict | None:
    """The plan of a batch of up to `size` proposals; None when there is nothing left to draw from.

    `run` is locked: its cursor moves on.
    """
    material = PostgresMaterial(session, run, dataset)
    drawn, run.cursor = draw_plan(
        material, run.cursor, run.method, options_of(run), run.seed, run.batches_planned, size, rng
    )
    return drawn


def load(session: Session, run: Run, dataset: DatasetRow, plan: dict) -> Batch:
    """The kernel's batch of a plan."""
    return load_plan(PostgresMaterial(session, run, dataset), plan, options_of(run), dataset.language)


class PostgresMaterial(Material):
    """The rows of the run's dataset, inside one transaction."""

    def __init__(self, session: Session, run: Run, dataset: DatasetRow) -> None:
        self._session, self._run, self._dataset = session, run, dataset

    def seeds(self) -> Sequence[tuple[str, bool | None]]:
        return dataset_store.representatives(self._session, self._dataset.id, "seed")

    def sample_generated(self, count: int, rng: random.Random) -> list[str]:
        return sampling_queries.sample_generated(self._session, self._dataset, count, rng)

    def vectors(self, ids: Sequence[str]) -> Mapping[str, np.ndarray]:
        stored = dataset_store.embeddings(self._session, ids)
        return {id: np.frombuffer(vector, dtype=np.float32) for id, vector in stored.items()}

    def task_types(self) -> Mapping[str, int]:
        return store.count_task_types(self._session, self._run.id)

    def task_sizes(self, tasks: Sequence[str]) -> dict[str, int]:
        return sampling_queries.task_sizes(self._session, self._dataset.id, tasks)

    def next_records(self, chosen: ParentFilter, unanswered: bool, salt: str, after: str, count: int) -> Positions:
        answered_by = self._run.method if unanswered else None
        return sampling_queries.parents(
            self._session, self._dataset.id, chosen, self._run.id, answered_by, salt, after, count
        )

    def next_passages(self, document_ids: Sequence[str], salt: str, after: str, count: int) -> Positions:
        return sampling_queries.passages(self._session, self._dataset.id, document_ids, salt, after, count)

    def next_labelled(self, task: str, salt: str, after: str, count: int) -> Positions:
        return sampling_queries.labelled(self._session, self._dataset.id, task, salt, after, count)

    def demonstrations(self, ids: Sequence[str]) -> Mapping[str, Demonstration]:
        return demonstrations(dataset_store.group_rows(self._session, ids))

    def parents(self, ids: Sequence[str]) -> Mapping[str, Parent]:
        return {row.id: parent(row) for row in dataset_store.records_by_id(self._session, ids)}

    def sources(self, ids: Sequence[str]) -> Mapping[str, Source]:
        rows = sampling_queries.by_id(self._session, ids)
        return {row.id: Source(row.id, row.task, row.fields) for row in rows}


def parent(row: RecordRow) -> Parent:
    return Parent(
        id=row.id,
        instruction=row.instruction,
        input=row.input,
        output=row.output,
        group_id=row.group_id,
        round=row.round or 0,
        # The pool knows an instruction by the representative of its group, which may be another row.
        ancestors=tuple(dict.fromkeys([*row.lineage.get("resembles", ()), row.group_id])),
        origin=row.origin,
        run_id=row.run_id,
        method=row.method,
        operation=row.operation,
        topic=row.tags.get("topic"),
        scores=row.scores,
    )


def demonstrations(rows: Sequence[RecordRow]) -> dict[str, Demonstration]:
    """Groups as demonstrations, by the id of their representative. Rows without an output give no instance."""
    groups: dict[str, list[RecordRow]] = {}
    for row in rows:
        groups.setdefault(row.group_id, []).append(row)
    return {
        representative: Demonstration(
            representative,
            members[0].instruction,
            tuple(Instance(row.input, row.output) for row in members if row.output),
            members[0].is_classification,
        )
        for representative, members in groups.items()
    }
