"""What batches start from, in memory: the notebook's counterpart of what a service draws from its database."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from app.synth import conditioning, self_instruct, templates
from app.synth.coverage import sparse_sample
from app.synth.methods import METHODS
from app.synth.options import MethodOptions
from app.synth.parents import ParentFilter
from app.synth.passages import passages
from app.synth.types import Batch, Demonstration, Parent, Source


@dataclass
class Supply:
    """Seeds, records, labelled rows and passages; `made` grows with what is accepted."""

    seeds: Sequence[Demonstration] = ()
    records: Sequence[Parent] = ()
    labelled: Sequence[Source] = ()
    passages: Sequence[Source] = ()
    made: list[Demonstration] = field(default_factory=list)
    vectors: list[np.ndarray | None] = field(default_factory=list)
    task_types: Counter[str] = field(default_factory=Counter)
    _queues: dict[str, list] = field(default_factory=dict)

    def missing(self, method: str, options: MethodOptions) -> str | None:
        """What the method needs and is not there, in words."""
        draws = METHODS[method].draws_from(options)
        have = {"seeds": self.seeds, "records": self.records, "labelled": self.labelled, "passages": self.passages}
        return f"{method} needs at least one of {draws}" if draws in have and not have[draws] else None

    def batch(self, method: str, options: MethodOptions, language: str, number: int, seed: int) -> Batch | None:
        """The next batch; None when there is nothing left."""
        rng = random.Random(f"{seed}-{number}")
        kind = METHODS[method]
        size = kind.batch_size(options)
        drawn = getattr(self, f"_{kind.draws_from(options)}")(method, options, size, number, rng)
        if drawn is None:
            return None
        size = len(drawn.get("parents", ()) or drawn.get("sources", ())) or size
        return Batch(options, language, rng.randrange(2**31), size, **drawn)

    def _seeds(self, method, options: self_instruct.Options, size, number, rng: random.Random) -> dict:
        pool = self.made
        if options.sampling == "coverage" and pool and all(vector is not None for vector in self.vectors):
            wanted = options.of_variant("pool_demonstrations")
            pool = [self.made[place] for place in sparse_sample(np.stack(self.vectors), wanted, rng)]
        return {
            "demonstrations": self_instruct.mix_demonstrations(self.seeds, pool, options, rng),
            "examples": tuple(self.seeds),
            "focus": conditioning.choose_conditioning(options.topics, options.task_types, self.task_types, rng),
        }

    def _records(self, method, options, size, number, rng) -> dict | None:
        fitting = [one for one in self.records if _fits(one, options.parents)]
        taken = self._next("records", fitting, size, rng, again=not METHODS[method].answers_once)
        return {"parents": tuple(taken)} if taken else None

    def _passages(self, method, options, size, number, rng) -> dict | None:
        taken = self._next("passages", self.passages, size, rng, again=False)
        return {"sources": tuple(taken)} if taken else None

    def _labelled(self, method, options: templates.Options, size, number, rng: random.Random) -> dict | None:
        wanted = [one for one in self.labelled if not options.tasks or one.task in options.tasks]
        sizes = dict(Counter(one.task for one in wanted))
        drawn: list[Source] = []
        while len(drawn) < size and (shares := templates.mixture(sizes, options)):
            task = rng.choices(list(shares), list(shares.values()))[0]
            rows = [one for one in wanted if one.task == task for _ in range(options.uses)]
            taken = self._next(f"task {task}", rows, 1, rng, again=False)
            drawn += taken
            if not taken:
                del sizes[task]
        return {"sources": tuple(drawn), "focus": {"shown": tuple(wanted)}} if drawn else None

    def _nothing(self, method, options, size, number, rng) -> dict:
        return {"focus": METHODS[method].conditioning(options, size, number)}

    def _next(self, name: str, rows: Sequence, count: int, rng: random.Random, again: bool) -> list:
        """The next rows in a random order; from the beginning again where that is wanted."""
        taken: list = []
        if name not in self._queues:
            self._queues[name] = rng.sample(list(rows), len(rows))
        while len(taken) < count:
            if not self._queues[name]:
                if not again or not rows:
                    break
                self._queues[name] = rng.sample(list(rows), len(rows))
            taken.append(self._queues[name].pop())
        return taken


def as_parents(seeds: Iterable[Demonstration]) -> list[Parent]:
    """Seeds as records: one for each instance, or one without an answer."""
    found = []
    for one in seeds:
        for instance in one.instances:
            found.append(Parent(one.id, one.instruction, instance.input, instance.output, one.id))
        if not one.instances:
            found.append(Parent(one.id, one.instruction, family=one.id))
    return found


def as_sources(labelled: dict[str, Iterable[dict]]) -> list[Source]:
    """Rows by task, as a template run takes them."""
    return [Source(f"{task}-{n}", task, row) for task, rows in labelled.items() for n, row in enumerate(rows)]


def as_passages(documents: Iterable[str | tuple[str, str]]) -> list[Source]:
    """Texts, or (title, text), cut into passages."""
    found = []
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
            found.append(Source(f"document-{number}-{start}", "", fields))
    return found


def _fits(one: Parent, chosen: ParentFilter) -> bool:
    answered = chosen.answered is None or bool(one.output) == chosen.answered
    return answered and (chosen.text is None or chosen.text.casefold() in one.instruction.casefold())
