"""The same candidates in the same order, with the same settings, are decided alike in memory and in Postgres."""

import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from app.access import service as access
from app.access.service import Caller
from app.datasets import service
from app.datasets.admission import Origin, admit
from app.datasets.pools import Pools
from app.datasets.schemas import DatasetCreate
from app.persistence.db import transaction
from app.synth.decide import InMemoryPool
from app.synth.notebook.in_memory_material import as_parents
from app.synth.novelty.pool import SCOPES, Thresholds, comparison_text
from app.synth.types import Candidate, Demonstration, Instance, Rejection
from app.tables.datasets import Dataset, Record
from tests.fakes import encoders, hash_encoder

SEED = Demonstration("seed", "Name three fruits that are red", (Instance("", "apple"), Instance("in May", "cherry")))
# Near to each other and to the seed, far from all, and the same in other letters.
INSTRUCTIONS = (
    SEED.instruction,
    "Name three fruits which are red",
    "name three  fruits that are RED",
    "Explain how the tides come about in a bay",
    "Explain how tides come about in a bay",
    "Write a poem on a winter morning",
)
NAMES = ("", "first", "second")
IN_FLIGHT = Rejection("duplicate_lexical", 0.9, 0.7, None, INSTRUCTIONS[3])


def candidate() -> st.SearchStrategy[Candidate]:
    rejections = st.sampled_from(
        (
            None,
            None,
            None,
            Rejection("too_short", 2, 4),
            Rejection("duplicate_lexical", 0.9, 0.7, None, INSTRUCTIONS[3]),
        )
    )
    return st.builds(
        Candidate,
        st.sampled_from(INSTRUCTIONS),
        st.sampled_from(("", "in May", "of the north")),
        st.sampled_from(("apple", "cherry", "a longer answer")),
        name=st.sampled_from(NAMES),
        scope=st.sampled_from(("instruction", "instruction", "row")),
        resembles=st.lists(st.sampled_from(("SEED", *NAMES[1:])), max_size=2, unique=True).map(tuple),
        rejection=rejections,
    )


offers = st.lists(
    st.tuples(
        st.sampled_from(("generated", "generated", "imported", "seed")),
        st.one_of(st.none(), st.integers(0, 3)),
        st.lists(candidate(), min_size=1, max_size=7),
    ),
    min_size=1,
    max_size=3,
)


def with_seed_id(candidates: Sequence[Candidate], id: str) -> list[Candidate]:
    return [replace(c, resembles=tuple(id if item == "SEED" else item for item in c.resembles)) for c in candidates]


def in_postgres(scope: str, batches, encoded: bool) -> list[tuple]:
    tasks = [{"instruction": SEED.instruction, "instances": [vars(instance) for instance in SEED.instances]}]
    with transaction() as session:
        caller = Caller(access.ensure_project(session, "same decisions").id, "key")
        body = DatasetCreate(name=f"set {time.time_ns()}", scope=scope, seeds={"tasks": tasks})
        dataset = service.create(session, caller, body)
        representative = session.scalar(
            select(Record.id).where(
                Record.dataset_id == dataset.id, Record.group_id == Record.id, Record.pool_position == 1
            )
        )
    pools = Pools(encoders())
    pools.prepare(dataset)
    for kind, room, candidates in batches:
        candidates = with_seed_id(candidates, representative)
        vectors = vectors_of(scope, candidates, encoded)
        with pools.precheck_and_lock(dataset.id, candidates, vectors) as offer:
            admit(offer.session, offer.dataset, candidates, vectors, Origin(kind), offer.precheck, room)
    return stored(dataset)


def stored(dataset: Dataset) -> list[tuple]:
    """Each decided row as it was decided, ids as the positions of their rows."""
    with transaction() as session:
        rows = session.scalars(select(Record).where(Record.dataset_id == dataset.id).order_by(Record.id)).all()
    seeds = len(SEED.instances)
    position = {row.id: n - seeds for n, row in enumerate(rows)}
    return [
        (
            row.reason,
            *((row.detail["value"], row.detail["threshold"]) if row.reason else (None, None)),
            position.get(row.nearest_id),
            row.nearest_text,
            position[row.group_id],
            [position.get(id, id) for id in row.lineage["resembles"]],
        )
        for row in rows[seeds:]
    ]


def in_memory(scope: str, batches, encoded: bool) -> list[tuple]:
    pool = InMemoryPool(scope, Thresholds())
    parents = as_parents([SEED])
    position = {parent.id: n - len(parents) for n, parent in enumerate(parents)}
    for parent in parents:
        row = Candidate(parent.instruction, parent.input, parent.output)
        pool.add_existing(parent.id, row, hash_encoder([comparison_text(scope, row)])[0])
    decisions = []
    for kind, room, candidates in batches:
        candidates = with_seed_id(candidates, SEED.id)
        decisions += pool.admit(candidates, vectors_of(scope, candidates, encoded), room, kind)
    position |= {decision.id: n for n, decision in enumerate(decisions)}
    return [
        (
            *(
                (item.rejection.reason, item.rejection.value, item.rejection.threshold)
                if item.rejection
                else [None] * 3
            ),
            position.get(item.rejection.nearest_id) if item.rejection else None,
            item.rejection.nearest_text if item.rejection else None,
            position[item.group_id],
            [position.get(id, id) for id in item.resembles],
        )
        for item in decisions
    ]


def vectors_of(scope: str, candidates: Sequence[Candidate], encoded: bool) -> list:
    texts = [comparison_text(scope, candidate) for candidate in candidates]
    return list(hash_encoder(texts)) if encoded else [None] * len(texts)


@pytest.mark.parametrize("scope", SCOPES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=offers, encoded=st.booleans())
@example(
    batches=[
        ("seed", None, [Candidate(INSTRUCTIONS[3], "", "a")]),
        ("generated", None, [Candidate(INSTRUCTIONS[4], "", "b")]),
    ],
    encoded=False,
)
def test_memory_and_postgres_decide_alike(database, scope, batches, encoded):
    assert in_memory(scope, batches, encoded) == in_postgres(scope, batches, encoded)


def test_a_row_that_joins_a_rejected_family_on_purpose_begins_one_of_its_own(database):
    near = INSTRUCTIONS[1]
    batches = [("generated", None, [Candidate(near, "", "a"), Candidate(near, "", "b", scope="row")])]
    first, second = in_postgres("instruction", batches, True)
    assert (first[0], second[0], second[5]) == ("duplicate_lexical", None, 1)


def test_a_child_with_the_instruction_of_its_parent_is_of_the_parents_group(database):
    child = Candidate(SEED.instruction, "in July", "plum", resembles=("SEED",))
    ((reason, *_, group_id, _),) = in_postgres("instruction", [("generated", None, [child])], True)
    assert (reason, group_id) == (None, -2)
