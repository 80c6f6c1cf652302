"""The material of a batch: drawn when the batch is planned, stored as ids, and read again by every try.

A plan contains ids and a seed only. A second try reads the same rows and makes the same requests, so it gets the stored
replies that were paid for already. The protocol `Material` hides where the rows are stored.
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
# Density compares all pairs of rows, so a larger pool is sampled first.
COVERAGE_POOL = 1000

Positions = Sequence[tuple[str, str]]
"""(id, position) pairs; the position is md5(id/salt) in hex: a random order, the same for every reader."""


class Material(Protocol):
    """Seeds, records, labelled rows and passages. Everything is named by ids; the last three methods read by ids."""

    def seeds(self) -> Sequence[tuple[str, bool | None]]:
        """Return (id, is_classification) of every seed, oldest first."""

    def sample_generated(self, count: int, rng: random.Random) -> list[str]:
        """Return the ids of up to `count` representatives of generated groups, each with the same probability."""

    def vectors(self, ids: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Return the unit vectors, float32 of shape (dimensions,), of the representatives that have one."""

    def task_types(self) -> Mapping[str, int]:
        """Return the number of rows of this run by task type: accepted ones, and those requested by open batches."""

    def task_sizes(self, tasks: Sequence[str]) -> dict[str, int]:
        """Return the number of labelled rows by task, of these tasks or of all."""

    def next_records(
        self, parent_filter: ParentFilter, unanswered: bool, salt: str, after: str, count: int
    ) -> Positions:
        """Return up to `count` records that pass the filter, without dialogues and rows of the run itself.

        Args:
            parent_filter: the filter.
            unanswered: return only records that no accepted row answers yet.
            salt: determines the order.
            after: the position behind which the records stand; "" at the start.
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
    # The seed comes from the generator of the batch, so that it is the same when the plan is drawn again.
    proposals = len(plan_fields.get("parents", ()) or plan_fields.get("sources", ())) or size
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
        draws = {
            "seeds": self._seeds,
            "records": self._records,
            "labelled": self._labelled,
            "passages": self._passages,
            "nothing": self._nothing,
        }
        return draws[METHODS[self.method].draws_from(self.options)]()

    def _seeds(self) -> dict[str, Any]:
        options: self_instruct.Options = self.options
        # Ids suffice for a plan; the texts are read when the batch is worked on, maybe in another process.
        seeds = self.material.seeds()
        count = options.of_variant("pool_demonstrations")
        if options.sampling == "coverage":
            pool = self._sparse(count)
        else:
            pool = self.material.sample_generated(count, self.rng)
        mixed = self_instruct.mix_demonstrations(
            [Demonstration(id, "") for id, _ in seeds], [Demonstration(id, "") for id in pool], options, self.rng
        )
        existing = self.material.task_types() if options.task_types else {}
        return {
            "demonstrations": [demonstration.id for demonstration in mixed],
            "examples": _examples(seeds, random.Random(self.run_seed)),
            "focus": conditioning.choose_conditioning(options.topics, options.task_types, existing, self.rng),
        }

    def _sparse(self, count: int) -> list[str]:
        """Return generated representatives from sparse regions of the pool; of a large pool, of a sample of it."""
        sample = self.material.sample_generated(COVERAGE_POOL, self.rng)
        vectors = self.material.vectors(sample)
        ids = [id for id in sample if id in vectors]
        if not ids or count == 0:
            return ids[:count]
        matrix = np.stack([vectors[id] for id in ids])
        return [ids[position] for position in sparse_sample(matrix, count, self.rng)]

    def _records(self) -> dict[str, Any] | None:
        """Return the next records in the run's own order.

        Evolution and dialogues begin again; an answer is given once.
        """
        once = METHODS[self.method].answers_once

        def read(salt: str, after: str, count: int) -> Positions:
            return self.material.next_records(self.options.parents, once, salt, after, count)

        ids = self._next("records", self.size, 1 if once else None, read)
        return {"parents": ids} if ids else None

    def _passages(self) -> dict[str, Any] | None:
        def read(salt: str, after: str, count: int) -> Positions:
            return self.material.next_passages(self.options.document_ids, salt, after, count)

        ids = self._next("passages", self.size, 1, read)
        return {"sources": ids} if ids else None

    def _labelled(self) -> dict[str, Any] | None:
        """Return the next labelled rows of tasks that are drawn by the shares of the mixture, or None without any."""
        options: templates.Options = self.options
        sizes = self.material.task_sizes(options.tasks)
        ids: list[str] = []
        # Row by row, so that a batch has the mixture of the run and not one task.
        while sizes and len(ids) < self.size and (shares := templates.mixture(sizes, options)):
            task = self.rng.choices(list(shares), list(shares.values()))[0]
            task_ids = self._next_labelled(task, options.uses)
            ids += task_ids
            if not task_ids:
                del sizes[task]
        if not ids:
            return None
        return {"sources": ids, "shown": self._sample_examples(sizes, 3 * options.demonstrations)}

    def _next_labelled(self, task: str, uses: int) -> list[str]:
        def read(salt: str, after: str, count: int) -> Positions:
            return self.material.next_labelled(task, salt, after, count)

        return self._next(f"task {task}", 1, uses, read)

    def _sample_examples(self, tasks: Mapping[str, int], count: int) -> list[str]:
        """Return rows of each task of which some are shown as solved examples: up to `count`, at random."""
        if count == 0:
            return []
        samples = (self.material.next_labelled(task, str(self.rng.random()), "", count) for task in tasks)
        return [id for positions in samples for id, _ in positions]

    def _nothing(self) -> dict[str, Any]:
        return {"focus": METHODS[self.method].conditioning(self.options, self.size, self.number)}

    def _next(self, name: str, count: int, passes: int | None, read: Callable[[str, str, int], Positions]) -> list[str]:
        """Return the next ids of an ordered source; from its beginning again, in another order, for `passes` in all."""
        at = self.cursor.get(name, {"pass": 0, "after": ""})
        ids: list[str] = []
        while len(ids) < count and (passes is None or at["pass"] < passes):
            positions = read(f"{self.run_seed}/{at['pass']}", at["after"], count - len(ids))
            ids += [id for id, _ in positions]
            if positions:
                at = at | {"after": positions[-1][1]}
            elif not at["after"]:
                # A whole pass without any row: there is no material, and further passes would not end.
                break
            if len(ids) < count:
                at = {"pass": at["pass"] + 1, "after": ""}
        self.cursor = self.cursor | {name: at}
        return ids


def _examples(seeds: Sequence[tuple[str, bool | None]], rng: random.Random) -> list[str]:
    """Return seeds for the prompts of classification and instances, the same in every batch for prompt caches."""
    ids_by_label = [[id for id, is_yes in seeds if bool(is_yes) == label] for label in (True, False)]
    return [id for ids in ids_by_label for id in rng.sample(ids, min(EXAMPLES_OF_EACH_LABEL, len(ids)))]
