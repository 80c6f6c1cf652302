"""The material of a batch: drawn when the batch is planned, stored as ids, and read again by every try.

A plan contains ids and a seed only. A second try reads the same rows and makes the same requests, so it gets the stored
replies that were paid for already. The protocol `Material` hides where the rows are stored: `app.runs.sampling` reads
them from Postgres, `app.synth.notebook.in_memory_material` from memory.

The fields of a plan, of which each method has those that its prompts need:

- `proposals` and `seed`: the number of proposals, and the seed of the batch's random choices.
- `demonstrations`: seeds and generated rows that the prompt for new instructions shows.
- `examples`: seeds that the prompts for classification and instances show, the same in every batch of a run.
- `parents`: records to evolve or to answer. `sources`: labelled rows or passages to turn into rows.
- `shown`: labelled rows that the prompts show as solved examples.
- `focus`: what the prompts demand (the conditioning), such as a topic. The name is that of plans already stored.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from app.synth.methods import conditioning, self_instruct, templates
from app.synth.methods.parents import ParentFilter
from app.synth.methods.registry import METHODS
from app.synth.novelty.coverage import sparse_sample
from app.synth.quality.options import MethodOptions
from app.synth.types import Batch, Demonstration, Parent, Source

EXAMPLES_OF_EACH_LABEL = 8
# The sampling by coverage compares all pairs of rows, so a larger pool is reduced to so many random rows first.
COVERAGE_POOL = 1000

Positions = Sequence[tuple[str, str]]
"""(id, position) pairs; the position is md5(id/salt) in hex: a random order, the same for every reader."""


class Material(Protocol):
    """Seeds, records, labelled rows and passages. The last three methods read rows, the others list ids or count."""

    def seeds(self) -> Sequence[tuple[str, bool | None]]:
        """Return (id, is_classification) of every seed, oldest first."""

    def sample_generated(self, count: int, rng: random.Random) -> list[str]:
        """Return the ids of up to `count` representatives of generated groups, each with the same probability."""

    def vectors(self, ids: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Return the unit vectors, float32 of shape (dimensions,), of the representatives that have one."""

    def count_task_types(self) -> Mapping[str, int]:
        """Return the number of rows of this run by task type: accepted ones, and those requested by open batches."""

    def count_labelled(self, tasks: Sequence[str]) -> dict[str, int]:
        """Return the number of labelled rows by task, of these tasks or of all."""

    def next_records(
        self, parent_filter: ParentFilter, unanswered: bool, salt: str, after: str, count: int
    ) -> Positions:
        """Return up to `count` records that pass the filter, without dialogues and rows of the run itself.

        Args:
            parent_filter: the filter.
            unanswered: return only records that no accepted row answers yet.
            salt: determines the order.
            after: the position of the last record that was read; "" at the start.
            count: the maximum of records.
        """

    def next_passages(self, document_ids: Sequence[str], salt: str, after: str, count: int) -> Positions:
        """Return up to `count` passages of these documents, or of all, behind the position `after`."""

    def next_labelled(self, task: str, salt: str, after: str, count: int) -> Positions:
        """Return up to `count` labelled rows of a task behind the position `after`."""

    def demonstrations(self, ids: Sequence[str]) -> Mapping[str, Demonstration]:
        """Return groups by the ids of their representatives; rows without an output give no instance."""

    def parents(self, ids: Sequence[str]) -> Mapping[str, Parent]:
        """Return the records with these ids; ids of removed records are left out."""

    def sources(self, ids: Sequence[str]) -> Mapping[str, Source]:
        """Return the labelled rows and passages with these ids; ids of removed ones are left out."""


def draw_plan(
    material: Material,
    cursor: Mapping[str, Any],
    method: str,
    options: MethodOptions,
    run_seed: int,
    number: int,
    size: int,
    rng: random.Random,
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Draw the plan of a batch. The same material, cursor and `rng` give the same plan.

    Args:
        material: where to draw from.
        cursor: how far the run has read each type of material; {} at the start.
        method: the name of the method.
        options: its options, validated.
        run_seed: determines the order in which the run reads its material.
        number: the number of the batch, from 0.
        size: the maximum of proposals.
        rng: the source of randomness.

    Returns:
        The plan, or None when nothing remains to draw from, and the cursor after it. Both are JSON values.
    """
    drawer = _PlanDrawer(material, dict(cursor), method, options, run_seed, number, size, rng)
    plan_fields = drawer.draw()
    if plan_fields is None:
        return None, drawer.cursor
    # A method that works on rows makes one proposal of each drawn row; any other makes as many as were requested.
    drawn_rows = plan_fields.get("parents", ()) or plan_fields.get("sources", ())
    proposals = len(drawn_rows) or size
    # The seed comes from the generator of the batch, so that a run with the same seed makes the same requests.
    return {"proposals": proposals, "seed": rng.randrange(2**31)} | plan_fields, drawer.cursor


def load_plan(material: Material, plan: Mapping[str, Any], options: MethodOptions, language: str) -> Batch:
    """Load the batch of a plan, without rows that were removed from the dataset since.

    Args:
        material: where the rows are stored.
        plan: a plan of `draw_plan`.
        options: the options of the method, validated.
        language: the BCP-47 tag of the dataset.
    """
    demonstrations = material.demonstrations(sorted({*plan.get("demonstrations", ()), *plan.get("examples", ())}))
    parents = material.parents(plan.get("parents", ()))
    sources = material.sources([*plan.get("sources", ()), *plan.get("shown", ())])
    conditioning_fields = dict(plan.get("focus", {}))
    # Only one method shows solved examples, so they are part of its conditioning and no field of every batch.
    if "shown" in plan:
        conditioning_fields["shown"] = _in_order(sources, plan["shown"])
    return Batch(
        options=options,
        language=language,
        seed=plan["seed"],
        size=plan["proposals"],
        demonstrations=_in_order(demonstrations, plan.get("demonstrations", ())),
        examples=_in_order(demonstrations, plan.get("examples", ())),
        parents=_in_order(parents, plan.get("parents", ())),
        sources=_in_order(sources, plan.get("sources", ())),
        conditioning=conditioning_fields,
    )


# The order of the plan, and not of the database, decides the requests: another order would be another prompt.
def _in_order(rows: Mapping[str, Any], ids: Sequence[str]) -> tuple:
    return tuple(rows[id] for id in ids if id in rows)


class _PlanDrawer:
    """Draws one plan. `cursor`: how far the run has read each type of material; it is replaced as rows are drawn."""

    def __init__(
        self,
        material: Material,
        cursor: dict[str, Any],
        method: str,
        options: Any,
        run_seed: int,
        number: int,
        size: int,
        rng: random.Random,
    ) -> None:
        self.material, self.cursor, self.method, self.options = material, cursor, method, options
        self.run_seed, self.number, self.size, self.rng = run_seed, number, size, rng

    def draw(self) -> dict[str, Any] | None:
        draw_by_material = {
            "seeds": self._draw_seeds,
            "records": self._draw_records,
            "labelled": self._draw_labelled,
            "passages": self._draw_passages,
            "nothing": self._draw_nothing,
        }
        return draw_by_material[METHODS[self.method].draws_from(self.options)]()

    def _draw_seeds(self) -> dict[str, Any]:
        options: self_instruct.Options = self.options
        seeds = self.material.seeds()
        count = options.of_variant("pool_demonstrations")
        if options.sampling == "coverage":
            pool = self._sample_sparse(count)
        else:
            pool = self.material.sample_generated(count, self.rng)
        # Without texts, since a plan needs only the ids. The texts are read when the batch is processed, which may be
        # in another process.
        mixed = self_instruct.mix_demonstrations(
            [Demonstration(id, "") for id, _ in seeds], [Demonstration(id, "") for id in pool], options, self.rng
        )
        row_counts = self.material.count_task_types() if options.task_types else {}
        return {
            "demonstrations": [demonstration.id for demonstration in mixed],
            "examples": _sample_classified_seeds(seeds, random.Random(self.run_seed)),
            "focus": conditioning.choose_conditioning(options.topics, options.task_types, row_counts, self.rng),
        }

    def _sample_sparse(self, count: int) -> list[str]:
        """Return generated representatives from sparse regions of the pool; of a large pool, of a sample of it."""
        sample = self.material.sample_generated(COVERAGE_POOL, self.rng)
        vectors = self.material.vectors(sample)
        ids = [id for id in sample if id in vectors]
        if not ids or count == 0:
            return ids[:count]
        matrix = np.stack([vectors[id] for id in ids])
        return [ids[position] for position in sparse_sample(matrix, count, self.rng)]

    def _draw_records(self) -> dict[str, Any] | None:
        """Return the next records in the run's own order.

        Methods that evolve records or continue them as dialogues read all records again after the last one. A method
        that answers a record reads each record once.
        """
        once = METHODS[self.method].answers_once

        def read(salt: str, after: str, count: int) -> Positions:
            return self.material.next_records(self.options.parents, once, salt, after, count)

        ids = self._read_next("records", self.size, 1 if once else None, read)
        return {"parents": ids} if ids else None

    def _draw_passages(self) -> dict[str, Any] | None:
        def read(salt: str, after: str, count: int) -> Positions:
            return self.material.next_passages(self.options.document_ids, salt, after, count)

        ids = self._read_next("passages", self.size, 1, read)
        return {"sources": ids} if ids else None

    def _draw_labelled(self) -> dict[str, Any] | None:
        """Draw a task for each row by the shares of the mixture, and return its next labelled row. None without any."""
        options: templates.Options = self.options
        sizes = self.material.count_labelled(options.tasks)
        ids: list[str] = []
        # Row by row, so that a batch has the mixture of the run and not one task.
        while sizes and len(ids) < self.size and (shares := templates.mixture(sizes, options)):
            task = self.rng.choices(list(shares), list(shares.values()))[0]
            task_ids = self._next_labelled(task, options.uses)
            ids += task_ids
            if not task_ids:
                # All rows of the task have been read as often as the options allow.
                del sizes[task]
        if not ids:
            return None
        return {"sources": ids, "shown": self._sample_examples(sizes, 3 * options.demonstrations)}

    def _next_labelled(self, task: str, uses: int) -> list[str]:
        def read(salt: str, after: str, count: int) -> Positions:
            return self.material.next_labelled(task, salt, after, count)

        return self._read_next(f"task {task}", 1, uses, read)

    def _sample_examples(self, tasks: Mapping[str, int], count: int) -> list[str]:
        """Return up to `count` random rows of each task. The method shows some of them as solved examples."""
        if count == 0:
            return []
        samples = (self.material.next_labelled(task, str(self.rng.random()), "", count) for task in tasks)
        return [id for positions in samples for id, _ in positions]

    def _draw_nothing(self) -> dict[str, Any]:
        return {"focus": METHODS[self.method].conditioning(self.options, self.size, self.number)}

    def _read_next(
        self, name: str, count: int, max_passes: int | None, read: Callable[[str, str, int], Positions]
    ) -> list[str]:
        """Return the next ids of a type of material, and move its cursor behind them.

        Args:
            name: the type of material in the cursor.
            count: the number of ids; fewer are returned after the last pass.
            max_passes: how often all rows are read, each time in another order; None is no limit.
            read: `read(salt, after, count)` returns the rows behind the position `after`, in the order of the salt.
        """
        progress = self.cursor.get(name, {"pass": 0, "after": ""})
        ids: list[str] = []
        while len(ids) < count and (max_passes is None or progress["pass"] < max_passes):
            positions = read(f"{self.run_seed}/{progress['pass']}", progress["after"], count - len(ids))
            ids += [id for id, _ in positions]
            if positions:
                progress = progress | {"after": positions[-1][1]}
            elif not progress["after"]:
                # A whole pass without any row: there is no material, and further passes would not end.
                break
            if len(ids) < count:
                progress = {"pass": progress["pass"] + 1, "after": ""}
        self.cursor = self.cursor | {name: progress}
        return ids


def _sample_classified_seeds(seeds: Sequence[tuple[str, bool | None]], rng: random.Random) -> list[str]:
    """Return ids of seeds that are classification tasks, and of seeds that are not, as examples of both labels.

    The prompts for classification and instances show them. The generator has the seed of the run, so the examples are
    the same in every batch, and the teacher's prompt cache serves them.
    """
    ids_by_label = [
        [id for id, is_classification in seeds if bool(is_classification) == label] for label in (True, False)
    ]
    return [id for ids in ids_by_label for id in rng.sample(ids, min(EXAMPLES_OF_EACH_LABEL, len(ids)))]
