"""What enters a dataset: decided once, under its lock, on a real Postgres."""

import threading
import time

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from app.access import service as access
from app.access.service import Caller
from app.datasets import service
from app.datasets.admission import Origin, admit
from app.datasets.pools import Pools
from app.datasets.schemas import DatasetCreate
from app.persistence.db import transaction
from app.synth.novelty.pool import comparison_text
from app.synth.types import Candidate, Pair, Rejection
from app.tables.datasets import Dataset, Preference, Record
from tests.fakes import encoders, hash_encoder, unlike

SEEDS = [
    {"instruction": "Name three fruits that are red", "instances": [{"input": "", "output": "apple"}]},
    {
        "instruction": "Is this sentence a question?",
        "instances": [{"input": "Why?", "output": "yes"}, {"input": "No.", "output": "no"}],
        "is_classification": True,
    },
]


@pytest.fixture
def dataset(database) -> Dataset:
    with transaction() as session:
        project = access.ensure_project(session, "admission")
        caller = Caller(project.id, "key")
        body = DatasetCreate(name=f"set {time.time_ns()}", seeds={"tasks": SEEDS})
        return service.create(session, caller, body)


def offer(dataset: Dataset, pools: Pools, *candidates: Candidate, room: int | None = None, kind: str = "generated"):
    encoded = pools.load_encoder(dataset).encode([comparison_text(dataset.scope, c) for c in candidates])
    with pools.precheck_and_lock(dataset.id, candidates, list(encoded)) as offered:
        return admit(offered.session, offered.dataset, candidates, list(encoded), Origin(kind), offered.precheck, room)


def rows(dataset: Dataset, **filters) -> list[Record]:
    with transaction() as session:
        query = select(Record).where(Record.dataset_id == dataset.id).filter_by(**filters).order_by(Record.id)
        return list(session.scalars(query))


def test_seeds_are_groups_with_a_place_each(dataset):
    stored_rows = sorted(rows(dataset), key=lambda row: row.pool_position)
    assert [row.pool_position for row in stored_rows] == [1, 2, 3]
    assert stored_rows[1].group_id == stored_rows[2].group_id == stored_rows[1].id
    assert dataset.seed_count == 2


def test_duplicates_of_seeds_of_the_pool_and_of_the_batch_are_explained(dataset):
    new = "Explain how tides come about"
    outcome = offer(
        dataset,
        Pools(encoders(hash_encoder)),
        Candidate("Name three fruits which are red", "", "a"),
        Candidate(new, "", "b"),
        Candidate("Explain how the tides come about", "", "c"),
        Candidate("explain  how tides come ABOUT", "", "d"),
        Candidate("Say hi to all", "", "e", rejection=Rejection("too_short", 2, 4)),
    )
    assert (outcome.accepted, outcome.offered) == (1, 5)
    assert outcome.rejected == {"duplicate_lexical": 2, "duplicate_exact": 1, "too_short": 1}
    (kept,) = rows(dataset, status="accepted", origin="generated")
    for row in rows(dataset, reason="duplicate_exact"):
        assert (row.nearest_id, row.nearest_text) == (kept.id, new)
    first = rows(dataset, reason="duplicate_lexical")[0]
    assert first.nearest_text == SEEDS[0]["instruction"]
    assert first.detail["value"] > first.detail["threshold"] == 0.7
    assert rows(dataset, reason="too_short")[0].detail == {"value": 2, "threshold": 4}


def test_a_semantic_duplicate_names_its_neighbour(dataset):
    def same_for_all(texts):
        return hash_encoder(["one meaning"] * len(texts))

    outcome = offer(dataset, Pools(encoders(same_for_all)), Candidate("Describe the way of water", "", "x"))
    assert outcome.rejected == {"duplicate_semantic": 1}
    assert rows(dataset, reason="duplicate_semantic")[0].nearest_text == SEEDS[0]["instruction"]


def test_rows_of_one_instruction_are_one_group(dataset):
    text = "Translate the word into Korean"
    pools = Pools(encoders(hash_encoder))
    outcome = offer(dataset, pools, *(Candidate(text, f"word {n}", f"단어 {n}") for n in range(3)))
    assert outcome.accepted == 3
    kept = rows(dataset, status="accepted", origin="generated")
    assert {row.group_id for row in kept} == {kept[0].id}
    assert offer(dataset, pools, Candidate(text, "word 9", "y")).rejected == {"duplicate_lexical": 1}


def test_what_has_no_room_is_over_the_target(dataset):
    candidates = [Candidate(f"Explain {unlike(n)}", "", "x") for n in range(4)]
    outcome = offer(dataset, Pools(encoders(hash_encoder)), *candidates, room=3)
    assert (outcome.accepted, outcome.rejected) == (3, {"over_target": 1})


def test_a_rolled_back_admission_leaves_no_trace_in_the_pool(dataset):
    pools = Pools(encoders(hash_encoder))
    candidate = Candidate("Explain how tides come about", "", "x")
    vectors = list(hash_encoder([candidate.instruction]))
    with pytest.raises(RuntimeError), pools.precheck_and_lock(dataset.id, [candidate], vectors) as offered:
        before = offered.precheck
        outcome = admit(offered.session, offered.dataset, [candidate], vectors, Origin("generated"), before)
        assert outcome.accepted == 1
        raise RuntimeError("the database went away")
    assert offer(dataset, pools, candidate).accepted == 1


def test_the_database_refuses_a_copy_whatever_the_code_does(dataset):
    (seed, *_) = rows(dataset, origin="seed")
    with pytest.raises(IntegrityError, match="uq_records_pool_content"), transaction() as session:
        session.add(
            Record(
                id="rec_copy",
                dataset_id=dataset.id,
                origin="generated",
                status="accepted",
                pool_position=99,
                group_id="rec_copy",
                instruction=seed.instruction,
                input=seed.input,
                output="x",
                language="en",
                content_hash=seed.content_hash,
            )
        )


def test_several_workers_offering_the_same_rows_admit_each_once(dataset):
    candidates = [Candidate(f"Explain {unlike(n)}", "", "x") for n in range(40)]
    results = []

    def worker(offset: int):
        # A pool of its own for each: nothing is shared but the database.
        pools = Pools(encoders(hash_encoder))
        order = candidates[offset:] + candidates[:offset]
        for start in range(0, 40, 5):
            results.append(offer(dataset, pools, *order[start : start + 5]))

    threads = [threading.Thread(target=worker, args=(n * 10,)) for n in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sum(result.accepted for result in results) == 40
    assert sum(item.offered for item in results) == 160
    with transaction() as session:
        row = session.get(Dataset, dataset.id)
        assert (row.accepted_count, row.rejected_count) == (40, 120)
        positions = session.scalars(
            select(Record.pool_position).where(Record.dataset_id == dataset.id, Record.pool_position.is_not(None))
        ).all()
        assert sorted(positions) == list(range(1, row.last_pool_position + 1))


def test_seeds_without_embeddings_are_encoded_once_and_kept(dataset):
    encoded = []

    def encode(texts):
        encoded.extend(texts)
        return hash_encoder(texts)

    for _ in range(2):
        Pools(encoders(encode)).prepare(dataset)
    assert sorted(encoded) == sorted(task["instruction"] for task in SEEDS)


def test_rows_that_share_an_instruction_on_purpose_are_compared_whole(dataset):
    pools = Pools(encoders(hash_encoder))
    shared = [Candidate("Is it good or bad?", f"text {n % 3}", "good", scope="row") for n in range(6)]
    outcome = offer(dataset, pools, *shared)
    assert (outcome.accepted, dict(outcome.rejected)) == (3, {"duplicate_exact": 3})
    # A later batch joins the group; a new instruction that is near to it is a duplicate as ever.
    assert offer(dataset, pools, Candidate("Is it good or bad?", "text 9", "bad", scope="row")).accepted == 1
    assert offer(dataset, pools, Candidate("Is it good or bad then?", "x", "bad")).rejected == {"duplicate_lexical": 1}
    stored_rows = rows(dataset, instruction="Is it good or bad?", status="accepted")
    assert len({row.group_id for row in stored_rows}) == 1 and len(stored_rows) == 4


def test_an_answer_to_a_record_stands_beside_it_and_the_same_answer_only_once(dataset):
    pools = Pools(encoders(hash_encoder))
    answered = Candidate("Name three fruits that are red", "", "apple, cherry, plum", scope="row")
    assert offer(dataset, pools, answered, answered).accepted == 1
    assert offer(dataset, Pools(encoders(hash_encoder)), answered).rejected == {"duplicate_exact": 1}
    (row,) = rows(dataset, output="apple, cherry, plum", status="accepted")
    assert row.group_id == rows(dataset, instruction=answered.instruction, origin="seed")[0].id


def test_a_child_may_resemble_what_it_grew_from_and_nothing_else(dataset):
    pools, (representative,) = (
        Pools(encoders(hash_encoder)),
        rows(dataset, instruction="Name three fruits that are red"),
    )
    grown = Candidate("Name three fruits that are red and sweet", "", "cherry")
    assert offer(dataset, pools, grown).rejected == {"duplicate_lexical": 1}
    child = Candidate(
        "Name three fruits that are red and sweet", "", "cherry", name="c", resembles=(representative.id,)
    )
    grandchild = Candidate(
        "Name three fruits that are red and sweet and round",
        "",
        "cherry",
        parents=("c",),
        resembles=(representative.id, "c"),
    )
    assert offer(dataset, pools, child, grandchild).accepted == 2
    first, second = rows(dataset, output="cherry", status="accepted")
    assert second.lineage["parents"] == [first.id] and second.lineage["resembles"] == [representative.id, first.id]


def test_preference_pairs_come_in_with_their_row(dataset):
    pairs = (Pair("best_worst", "The Rhine", "Dunno", 0.5),)
    row = Candidate("Name a river of Europe", "", "The Rhine", pairs=pairs)
    offer(
        dataset, Pools(encoders(hash_encoder)), row, Candidate("Name a river of Europe", "", "The Rhine", pairs=pairs)
    )
    (stored_row,) = rows(dataset, output="The Rhine", status="accepted")
    with transaction() as session:
        preferences = session.scalars(select(Preference).where(Preference.dataset_id == dataset.id)).all()
    assert [(item.record_id, item.chosen, item.rejected, item.margin) for item in preferences] == [
        (stored_row.id, "The Rhine", "Dunno", 0.5)
    ]


def test_what_no_store_can_hold_is_left_out_and_costs_no_row(dataset):
    bad = "a\x00b\ud800c"
    kept = Candidate("Name a river", "", "Rhine", tags={"topic": bad}, source={"quote": bad, "start": 1})
    away = Candidate("Name a sea", "", "", rejection=Rejection("quote_not_found", bad))
    assert offer(dataset, Pools(encoders(hash_encoder)), kept, away).offered == 2
    (row,) = rows(dataset, instruction="Name a river")
    assert (row.tags, row.source) == ({"topic": "abc"}, {"quote": "abc", "start": 1})
    assert rows(dataset, instruction="Name a sea")[0].detail["value"] == "abc"


def test_rows_admitted_by_a_worker_are_in_its_pool_once(dataset):
    pools = Pools(encoders(hash_encoder))
    for n in range(3):
        offer(dataset, pools, *(Candidate(f"Explain {unlike(n, k)}", "", "x") for k in range(5)))
    with pools.lock_pool(dataset.id) as cached:
        assert len(cached.pool) == 2 + 15
        assert cached.last_pool_position == 3 + 15
