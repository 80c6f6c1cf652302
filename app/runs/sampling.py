"""Draws the material of a run's batches from its dataset: the protocol `Material` of `app.synth`, over Postgres.

A worker plans batches and loads them with it. The preview of prompts (`app.runs.prompt_preview`) uses it in the API.
"""

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


def parse_options(run: Run) -> MethodOptions:
    """Return the options of the run's method. An option that is newer than the run has its default."""
    return METHODS[run.method].options.model_validate(run.options)


def plan_batch(session: Session, run: Run, dataset: DatasetRow, size: int, rng: random.Random) -> dict | None:
    """Return the plan of the run's next batch, or None when there is nothing left to draw from.

    Args:
        session: the transaction that reads the material.
        run: the run, locked by the caller. Its cursor is set to the position after the rows that the plan has drawn.
        dataset: the dataset of the run.
        size: the maximum of proposals.
        rng: draws the material. The same state of it gives the same plan.
    """
    material = PostgresMaterial(session, run, dataset)
    plan, run.cursor = draw_plan(
        material, run.cursor, run.method, parse_options(run), run.seed, run.batches_planned, size, rng
    )
    return plan


def load_batch(session: Session, run: Run, dataset: DatasetRow, plan: dict) -> Batch:
    """Return the batch of a plan, as the method takes it: with the rows that the plan names by id, and the options."""
    return load_plan(PostgresMaterial(session, run, dataset), plan, parse_options(run), dataset.language)


class PostgresMaterial(Material):
    """The rows of the run's dataset, inside one transaction. The methods are described at `Material`."""

    def __init__(self, session: Session, run: Run, dataset: DatasetRow) -> None:
        self._session, self._run, self._dataset = session, run, dataset

    def seeds(self) -> Sequence[tuple[str, bool | None]]:
        """Return (id, is_classification) of every seed, oldest first."""
        return dataset_store.list_representatives(self._session, self._dataset.id, "seed")

    def sample_generated(self, count: int, rng: random.Random) -> list[str]:
        """Return ids of up to `count` representatives of generated groups, drawn uniformly."""
        return sampling_queries.sample_generated(self._session, self._dataset, count, rng)

    def vectors(self, ids: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Return the unit vectors (float32) of those of the records that have one."""
        stored = dataset_store.load_embeddings(self._session, ids)
        return {id: np.frombuffer(vector, dtype=np.float32) for id, vector in stored.items()}

    def count_task_types(self) -> Mapping[str, int]:
        """Count the rows of this run by task type, with those that open batches are to generate."""
        return store.count_task_types(self._session, self._run.id)

    def count_labelled(self, tasks: Sequence[str]) -> dict[str, int]:
        """Count the labelled rows by task, of these tasks or of all."""
        return sampling_queries.count_labelled_by_task(self._session, self._dataset.id, tasks)

    def next_records(
        self, parent_filter: ParentFilter, unanswered: bool, salt: str, after: str, count: int
    ) -> Positions:
        """Return up to `count` (id, position) of records behind the position `after`."""
        answered_by = self._run.method if unanswered else None
        return sampling_queries.list_next_parents(
            self._session, self._dataset.id, parent_filter, self._run.id, answered_by, salt, after, count
        )

    def next_passages(self, document_ids: Sequence[str], salt: str, after: str, count: int) -> Positions:
        """Return up to `count` (id, position) of passages behind the position `after`."""
        return sampling_queries.list_next_passages(self._session, self._dataset.id, document_ids, salt, after, count)

    def next_labelled(self, task: str, salt: str, after: str, count: int) -> Positions:
        """Return up to `count` (id, position) of labelled rows of a task behind the position `after`."""
        return sampling_queries.list_next_labelled(self._session, self._dataset.id, task, salt, after, count)

    def demonstrations(self, ids: Sequence[str]) -> Mapping[str, Demonstration]:
        """Return groups by the ids of their representatives."""
        return build_demonstrations(dataset_store.load_groups(self._session, ids))

    def parents(self, ids: Sequence[str]) -> Mapping[str, Parent]:
        """Return the records with these ids; ids of removed records are left out."""
        return {row.id: to_parent(row) for row in dataset_store.load_records(self._session, ids)}

    def sources(self, ids: Sequence[str]) -> Mapping[str, Source]:
        """Return the labelled rows and passages with these ids; ids of removed ones are left out."""
        rows = sampling_queries.load_sources(self._session, ids)
        return {row.id: Source(row.id, row.task, row.fields) for row in rows}


def to_parent(row: RecordRow) -> Parent:
    """Return the record as a method sees the parent of a new row."""
    return Parent(
        id=row.id,
        instruction=row.instruction,
        input=row.input,
        output=row.output,
        group_id=row.group_id,
        round=row.round or 0,
        # A new row may resemble the records that it grew from. The pool has the text of the representative of the
        # parent's group, which may be another row, so the new row may resemble that one, too.
        ancestors=tuple(dict.fromkeys([*row.lineage.get("resembles", ()), row.group_id])),
        origin=row.origin,
        run_id=row.run_id,
        method=row.method,
        operation=row.operation,
        topic=row.tags.get("topic"),
        scores=row.scores,
    )


def build_demonstrations(rows: Sequence[RecordRow]) -> dict[str, Demonstration]:
    """Return the groups of the rows as demonstrations, by the ids of their representatives.

    Args:
        rows: the rows of complete groups, the representative first in each. Rows without an output give no instance.
    """
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
