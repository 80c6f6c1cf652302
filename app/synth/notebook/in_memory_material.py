"""Material in memory for a notebook, in the same order as the service draws it from its database."""

import hashlib
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from app.synth.decide import Decision
from app.synth.methods.material import Material, Positions
from app.synth.methods.parents import ParentFilter, passes_filter
from app.synth.methods.passages import passages
from app.synth.methods.registry import METHODS
from app.synth.quality.options import MethodOptions
from app.synth.types import Candidate, Demonstration, Instance, Parent, Source


class InMemoryMaterial(Material):
    """Seeds, records, labelled rows and passages; groups of accepted rows are added by `accept`.

    Args:
        seeds: demonstrations written by a person.
        records: accepted records to grow from.
        labelled: rows of tasks for templates.
        passages: passages of documents.

    Raises:
        ValueError: two seeds, two records, two labelled rows or two passages have the same id.
    """

    def __init__(
        self,
        seeds: Sequence[Demonstration] = (),
        records: Sequence[Parent] = (),
        labelled: Sequence[Source] = (),
        passages: Sequence[Source] = (),
    ) -> None:
        self._seeds, self._records = _by_id("seeds", seeds), _by_id("records", records)
        self._labelled, self._passages = _by_id("labelled rows", labelled), _by_id("passages", passages)
        self._groups: dict[str, Demonstration] = dict(self._seeds)
        self._generated: list[str] = []
        self._vectors: dict[str, np.ndarray] = {}
        self._task_types: Counter[str] = Counter()
        self._open_task_types: Counter[str] = Counter()
        self._orders: dict[tuple[str, str], list[tuple[str, str]]] = {}

    def find_missing_material(self, method: str, options: MethodOptions) -> str | None:
        """Return a message that names the material that the method needs and lacks, or None when it lacks nothing."""
        draws = METHODS[method].draws_from(options)
        if draws == "seeds" and not self._seeds:
            return f"{method} needs at least one of seeds"
        if draws == "records":
            return self._find_missing_records(method, options.parents)
        if draws == "labelled" and not self.count_labelled(options.tasks):
            return f"{method} needs at least one of labelled" + _among(options.tasks)
        if draws == "passages" and not any(map(_passage_of(options.document_ids), self._passages.values())):
            return f"{method} needs at least one of passages" + (
                f" of {', '.join(options.document_ids)}" if options.document_ids else ""
            )
        return None

    def _find_missing_records(self, method: str, parent_filter: ParentFilter) -> str | None:
        if not self._records:
            return f"{method} needs at least one of records"
        if any(passes_filter(record, parent_filter) for record in self._records.values()):
            return None
        conditions = ", ".join(f"{name}={value!r}" for name, value in parent_filter if value not in (None, {}))
        count = len(self._records)
        return f"none of the {count} records fits options['parents'] ({conditions}); see synth.Parent's fields"

    def add_open_plan(self, plan: Mapping) -> None:
        """Count the rows of a plan for the quotas of task types, until `clear_open_plans`."""
        # Without this all batches of a round would choose the task type that is furthest behind its share.
        task_type = plan.get("focus", {}).get("task_type")
        if task_type is not None:
            self._open_task_types[task_type] += plan["proposals"]

    def clear_open_plans(self) -> None:
        """Forget the plans of batches that have ended: accepted rows are counted by `accept`."""
        self._open_task_types.clear()

    def accept(self, decision: Decision, row: Candidate, vector: np.ndarray | None) -> None:
        """Add an accepted row to its group, or to a new group, which later batches may draw.

        Args:
            decision: the decision on the row.
            row: the row.
            vector: the unit vector of its instruction, or None without an encoder.
        """
        instances = (Instance(row.input, row.output),) if row.output else ()
        representative = self._groups.get(decision.group_id)
        if representative is not None:
            self._groups[decision.group_id] = replace(representative, instances=(*representative.instances, *instances))
        elif decision.group_id == decision.id:
            demonstration = Demonstration(decision.id, row.instruction, instances, row.is_classification)
            self._groups[decision.id] = demonstration
            self._generated.append(decision.id)
            if vector is not None:
                self._vectors[decision.id] = vector
        if "task_type" in row.tags:
            self._task_types[row.tags["task_type"]] += 1

    def seeds(self) -> Sequence[tuple[str, bool | None]]:
        """Return (id, is_classification) of every seed."""
        return [(id, seed.is_classification) for id, seed in self._seeds.items()]

    def sample_generated(self, count: int, rng: random.Random) -> list[str]:
        """Return the ids of up to `count` generated instructions, drawn evenly."""
        if count == 0 or not self._generated:
            return []
        return rng.sample(self._generated, min(count, len(self._generated)))

    def vectors(self, ids: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Return the unit vectors of those of the generated instructions that have one."""
        return {id: self._vectors[id] for id in ids if id in self._vectors}

    def count_task_types(self) -> Mapping[str, int]:
        """Return the rows by task type: accepted ones, and those of batches under way."""
        return self._task_types + self._open_task_types

    def count_labelled(self, tasks: Sequence[str]) -> dict[str, int]:
        """Return the number of labelled rows by task, of these tasks or of all."""
        sizes = Counter(source.task for source in self._labelled.values() if not tasks or source.task in tasks)
        return dict(sorted(sizes.items()))

    def next_records(
        self, parent_filter: ParentFilter, unanswered: bool, salt: str, after: str, count: int
    ) -> Positions:
        """Return up to `count` records that pass the filter, behind the position `after`."""
        # No record in memory was answered by a run, so `unanswered` excludes none.
        name = f"records {parent_filter.model_dump_json()}"
        return self._next_rows(
            name, self._records, lambda record: passes_filter(record, parent_filter), salt, after, count
        )

    def next_passages(self, document_ids: Sequence[str], salt: str, after: str, count: int) -> Positions:
        """Return up to `count` passages of these documents, or of all, behind the position `after`."""
        name = f"passages {sorted(document_ids)}"
        return self._next_rows(name, self._passages, _passage_of(document_ids), salt, after, count)

    def next_labelled(self, task: str, salt: str, after: str, count: int) -> Positions:
        """Return up to `count` labelled rows of a task behind the position `after`."""
        return self._next_rows(f"task {task}", self._labelled, lambda row: row.task == task, salt, after, count)

    def demonstrations(self, ids: Sequence[str]) -> Mapping[str, Demonstration]:
        """Return instructions with their instances by id."""
        return {id: self._groups[id] for id in ids if id in self._groups}

    def parents(self, ids: Sequence[str]) -> Mapping[str, Parent]:
        """Return the records with these ids."""
        return {id: self._records[id] for id in ids if id in self._records}

    def sources(self, ids: Sequence[str]) -> Mapping[str, Source]:
        """Return the labelled rows and passages with these ids."""
        both = self._labelled | self._passages
        return {id: both[id] for id in ids if id in both}

    def _next_rows(
        self, name: str, rows: Mapping, is_included: Callable[..., bool], salt: str, after: str, count: int
    ) -> Positions:
        """Return the next included rows in the order of md5(id/salt). All calls of a pass share the order."""
        # Sorted once for each pass: a run reads all of its material in small parts.
        if (name, salt) not in self._orders:
            ids = (id for id, row in rows.items() if is_included(row))
            self._orders[name, salt] = sorted((_position(id, salt), id) for id in ids)
        order = self._orders[name, salt]
        start = bisect_right(order, after, key=lambda entry: entry[0])
        return [(id, position) for position, id in order[start : start + count]]


def as_parents(seeds: Iterable[Demonstration]) -> list[Parent]:
    """Return seeds as records: one for each instance, or one without an answer. The records of a seed are one group."""
    parents = []
    for seed in seeds:
        for n, instance in enumerate(seed.instances or (Instance("", ""),)):
            id = f"{seed.id}/{n}" if n else seed.id
            texts = (seed.instruction, instance.input, instance.output)
            parents.append(Parent(id, *texts, group_id=seed.id, ancestors=(seed.id,), origin="seed"))
    return parents


def as_sources(labelled: Mapping[str, Iterable[dict]]) -> list[Source]:
    """Return labelled rows, given by task, as sources with the ids `TASK-N`."""
    return [Source(f"{task}-{n}", task, row) for task, rows in labelled.items() for n, row in enumerate(rows)]


def as_passages(documents: Iterable[str | tuple[str, str]]) -> list[Source]:
    """Divide texts, or (title, text), into passages. Document ids are `document-0`, `document-1` and so on."""
    sources = []
    for number, document in enumerate(documents):
        title, text = document if isinstance(document, tuple) else (document[:80], document)
        for start, passage in passages(text):
            fields = {
                "document": f"document-{number}",
                "title": title,
                "text": passage,
                "start": start,
                "end": start + len(passage),
            }
            sources.append(Source(f"document-{number}-{start}", "", fields))
    return sources


def _by_id(name: str, rows: Sequence) -> dict:
    by_id = {row.id: row for row in rows}
    if len(by_id) < len(rows):
        twice = next(id for id, count in Counter(row.id for row in rows).items() if count > 1)
        raise ValueError(f"two of the {name} have the id {twice!r}; give each its own")
    return by_id


def _position(id: str, salt: str) -> str:
    # The function that the service computes in SQL, so that a notebook draws in the same order.
    return hashlib.md5(f"{id}/{salt}".encode(), usedforsecurity=False).hexdigest()


def _passage_of(document_ids: Sequence[str]) -> Callable[[Source], bool]:
    return lambda source: not document_ids or source.fields["document"] in document_ids


def _among(names: Sequence[str]) -> str:
    return f" among {', '.join(names)}" if names else ""
