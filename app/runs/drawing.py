"""What a batch starts from: drawn when it is planned, kept as ids, and read again by every try.

A plan holds ids and a seed only. A second try reads the same rows, makes the same requests, and so finds
the answers that were paid for already.
"""

import random
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from sqlalchemy.orm import Session

from app.datasets import store as dataset_store
from app.runs import sources, store
from app.synth import conditioning, self_instruct, templates
from app.synth.coverage import sparse_sample
from app.synth.methods import METHODS
from app.synth.options import MethodOptions
from app.synth.types import Batch, Demonstration, Instance, Parent, Source
from app.tables.datasets import Dataset, Record
from app.tables.runs import Run

EXAMPLES_OF_EACH_KIND = 8
COVERAGE_POOL = 1000


def options_of(run: Run) -> MethodOptions:
    return METHODS[run.method].options.model_validate(run.options)


def plan(session: Session, run: Run, dataset: Dataset, size: int, rng: random.Random) -> dict | None:
    """The plan of a batch of up to `size` proposals; None when there is nothing left to draw from.

    `run` is locked: its cursor moves on.
    """
    options = options_of(run)
    drawn = _DRAWS[METHODS[run.method].draws_from(options)](session, run, dataset, options, size, rng)
    if drawn is None:
        return None
    found = len(drawn.get("parents", ()) or drawn.get("sources", ())) or size
    return {"proposals": found, "seed": rng.randrange(2**31)} | drawn


def load(session: Session, run: Run, dataset: Dataset, plan: dict) -> Batch:
    """The kernel's batch of a plan."""
    shown = demonstrations(
        dataset_store.family_rows(session, sorted({*plan.get("demonstrations", ()), *plan.get("examples", ())}))
    )
    parents = {row.id: parent(row) for row in dataset_store.records_by_id(session, plan.get("parents", ()))}
    drawn = {row.id: row for row in sources.by_id(session, [*plan.get("sources", ()), *plan.get("shown", ())])}
    material = {id: Source(id, row.task, row.fields) for id, row in drawn.items()}
    turned_to = dict(plan.get("focus", {}))
    if "shown" in plan:
        turned_to["shown"] = tuple(material[id] for id in plan["shown"] if id in material)
    return Batch(
        options=options_of(run),
        language=dataset.language,
        seed=plan["seed"],
        size=plan["proposals"],
        demonstrations=tuple(shown[id] for id in plan.get("demonstrations", ()) if id in shown),
        examples=tuple(shown[id] for id in plan.get("examples", ()) if id in shown),
        parents=tuple(parents[id] for id in plan.get("parents", ()) if id in parents),
        sources=tuple(material[id] for id in plan.get("sources", ()) if id in material),
        focus=turned_to,
    )


def parent(row: Record) -> Parent:
    return Parent(
        id=row.id,
        instruction=row.instruction,
        input=row.input,
        output=row.output,
        family=row.family,
        round=row.round or 0,
        # The pool knows an instruction by the head of its family, which may be another row.
        ancestors=tuple(dict.fromkeys([*row.lineage.get("resembles", ()), row.family])),
    )


def demonstrations(rows: Sequence[Record]) -> dict[str, Demonstration]:
    """Families as demonstrations, by the id of their head. Rows without an output give no instance."""
    families: dict[str, list[Record]] = {}
    for row in rows:
        families.setdefault(row.family, []).append(row)
    return {
        head: Demonstration(
            head,
            members[0].instruction,
            tuple(Instance(row.input, row.output) for row in members if row.output),
            members[0].is_classification,
        )
        for head, members in families.items()
    }


def _draw_seeds(
    session: Session, run: Run, dataset: Dataset, options: self_instruct.Options, size: int, rng: random.Random
) -> dict:
    seeds = dataset_store.heads(session, dataset.id, "seed")
    wanted = options.of_variant("pool_demonstrations")
    if options.sampling == "coverage":
        pool = _sparse(session, dataset, wanted, rng)
    else:
        pool = store.sample_pool(session, dataset, wanted, rng)
    mixed = self_instruct.mix_demonstrations(
        [Demonstration(id, "") for id, _ in seeds], [Demonstration(id, "") for id in pool], options, rng
    )
    made = store.task_types(session, run.id) if options.task_types else {}
    return {
        "demonstrations": [shown.id for shown in mixed],
        "examples": _examples(seeds, random.Random(run.seed)),
        "focus": conditioning.choose_conditioning(options.topics, options.task_types, made, rng),
    }


def _sparse(session: Session, dataset: Dataset, count: int, rng: random.Random) -> list[str]:
    """Generated heads from sparse regions of the pool; of a large pool, of a sample of it."""
    ids = store.sample_pool(session, dataset, COVERAGE_POOL, rng)
    vectors = dataset_store.embeddings(session, ids)
    known = [id for id in ids if id in vectors]
    if not known or count == 0:
        return known[:count]
    matrix = np.stack([np.frombuffer(vectors[id], dtype=np.float32) for id in known])
    return [known[place] for place in sparse_sample(matrix, count, rng)]


def _examples(seeds: Sequence[tuple[str, bool | None]], rng: random.Random) -> list[str]:
    """Seeds for the classification and instance prompts: the same for the whole run, so that caches hit."""
    kinds = [[id for id, is_yes in seeds if bool(is_yes) == kind] for kind in (True, False)]
    return [id for ids in kinds for id in rng.sample(ids, min(EXAMPLES_OF_EACH_KIND, len(ids)))]


def _draw_records(session: Session, run: Run, dataset: Dataset, options, size: int, rng: random.Random) -> dict | None:
    """The next records in the run's own order. Evolution and dialogues begin again; an answer is given once."""
    once = METHODS[run.method].answers_once
    passes = 1 if once else None
    ids = _next(run, "records", size, passes, partial(sources.parents, session, run, options.parents, once))
    return {"parents": ids} if ids else None


def _draw_passages(session: Session, run: Run, dataset: Dataset, options, size: int, rng: random.Random) -> dict | None:
    ids = _next(run, "passages", size, 1, partial(sources.passages, session, run, options.document_ids))
    return {"sources": ids} if ids else None


def _draw_labelled(
    session: Session, run: Run, dataset: Dataset, options: templates.Options, size: int, rng: random.Random
) -> dict | None:
    """Tasks by the mixture's shares, and the next rows of each."""
    sizes = sources.task_sizes(session, dataset.id, options.tasks)
    drawn: list[str] = []
    while sizes and len(drawn) < size:
        shares = templates.mixture(sizes, options)
        if not shares:
            break
        task = rng.choices(list(shares), list(shares.values()))[0]
        ids = _next(run, f"task {task}", 1, options.uses, partial(sources.labelled, session, run, task))
        drawn += ids
        if not ids:
            del sizes[task]
    if not drawn:
        return None
    shown = []
    if options.demonstrations:
        for task in sizes:
            shown += sources.some_labelled(session, dataset.id, task, 3 * options.demonstrations, rng)
    return {"sources": drawn, "shown": shown}


def _draw_nothing(session: Session, run: Run, dataset: Dataset, options, size: int, rng: random.Random) -> dict:
    return {"focus": METHODS[run.method].conditioning(options, size, run.batches_planned)}


_DRAWS = {
    "seeds": _draw_seeds,
    "records": _draw_records,
    "labelled": _draw_labelled,
    "passages": _draw_passages,
    "nothing": _draw_nothing,
}


def _next(
    run: Run, name: str, count: int, passes: int | None, read: Callable[[str, str, int], Sequence[tuple[str, str]]]
) -> list[str]:
    """The next ids of an ordered source; from its beginning again, in another order, for `passes` in all.

    `read(salt, after, count)` gives (id, place) pairs behind the place `after`, in the order of the salt.
    """
    at = run.cursor.get(name, {"pass": 0, "after": ""})
    found: list[str] = []
    while len(found) < count and (passes is None or at["pass"] < passes):
        rows = read(f"{run.seed}/{at['pass']}", at["after"], count - len(found))
        found += [id for id, _ in rows]
        if rows:
            at = at | {"after": rows[-1][1]}
        elif not at["after"]:
            break
        if len(found) < count:
            at = {"pass": at["pass"] + 1, "after": ""}
    run.cursor = run.cursor | {name: at}
    return found
