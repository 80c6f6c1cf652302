"""What a run needs to know of a method: its options, how a batch is planned, how it is worked off.

A plan holds ids and a seed only. A second try reads the same rows, makes the same requests, and so finds
the answers that were paid for already.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.datasets import store as dataset_store
from app.runs import store
from app.synth import self_instruct
from app.synth.types import Ask, Demonstration, Instance, Proposal, Screen
from app.tables.datasets import Dataset, Record
from app.tables.runs import Run

EXAMPLES_OF_EACH_KIND = 8


@dataclass(frozen=True)
class Method:
    """`plan` makes the JSON that is kept with a batch of some proposals; `load` reads the kernel's batch from it."""

    options: type[BaseModel]
    proposals_per_batch: Callable[[BaseModel], int]
    rows_per_proposal: Callable[[BaseModel], int]
    plan: Callable[[Session, Run, Dataset, int, random.Random], dict]
    load: Callable[[Session, Run, Dataset, dict], object]
    propose: Callable[[object, Ask, Screen], Awaitable[Proposal]]


def _plan_self_instruct(session: Session, run: Run, dataset: Dataset, size: int, rng: random.Random) -> dict:
    options = self_instruct.Options.model_validate(run.options)
    seeds = dataset_store.heads(session, dataset.id, "seed")
    pool = store.sample_pool(session, dataset, options.pool_demonstrations, rng)
    mixed = self_instruct.mix_demonstrations(
        [Demonstration(id, "") for id, _ in seeds], [Demonstration(id, "") for id in pool], options, rng
    )
    return {
        "proposals": size,
        "seed": rng.randrange(2**31),
        "demonstrations": [shown.id for shown in mixed],
        "examples": _examples(seeds, random.Random(run.seed)),
    }


def _examples(seeds: Sequence[tuple[str, bool | None]], rng: random.Random) -> list[str]:
    """Seeds for the classification and instance prompts: the same for the whole run, so that caches hit."""
    kinds = [[id for id, is_yes in seeds if bool(is_yes) == kind] for kind in (True, False)]
    return [id for ids in kinds for id in rng.sample(ids, min(EXAMPLES_OF_EACH_KIND, len(ids)))]


def _load_self_instruct(session: Session, run: Run, dataset: Dataset, plan: dict) -> self_instruct.Batch:
    ids = [*plan["demonstrations"], *plan["examples"]]
    shown = demonstrations(dataset_store.family_rows(session, sorted(set(ids))))
    return self_instruct.Batch(
        demonstrations=tuple(shown[id] for id in plan["demonstrations"] if id in shown),
        examples=tuple(shown[id] for id in plan["examples"] if id in shown),
        language=dataset.language,
        seed=plan["seed"],
        options=self_instruct.Options.model_validate(run.options | {"instructions_per_call": plan["proposals"]}),
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


METHODS: dict[str, Method] = {
    "self_instruct": Method(
        options=self_instruct.Options,
        proposals_per_batch=lambda options: options.instructions_per_call,
        rows_per_proposal=lambda options: options.max_instances,
        plan=_plan_self_instruct,
        load=_load_self_instruct,
        propose=self_instruct.propose,
    )
}
