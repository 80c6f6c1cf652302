"""What batches are drawn from: each record once, in an order of the run's own, with what it may resemble."""

import random
import time

import pytest

from app.access import service as access
from app.access.service import Caller
from app.datasets import service as datasets
from app.datasets.schemas import DatasetCreate
from app.persistence.db import transaction
from app.runs import sampling
from app.tables.datasets import Dataset, Record
from app.tables.runs import Run

TWO = [{"output": "The Ob"}, {"input": "in Asia", "output": "The Lena"}]
TASKS = [{"instruction": f"Name the {n}th river of the north", "instances": TWO} for n in range(12)]


@pytest.fixture
def dataset(database) -> Dataset:
    with transaction() as session:
        project = access.ensure_project(session, "drawing")
        body = DatasetCreate(name=f"set {time.time_ns()}", seeds={"tasks": TASKS})
        return datasets.create(session, Caller(project.id, "k"), body)


def run_on(dataset: Dataset, method: str, seed: int = 1, **options) -> Run:
    return Run(
        id="run_1", dataset_id=dataset.id, method=method, options=options, seed=seed, cursor={}, batches_planned=0
    )


def drawn(dataset: Dataset, run: Run, times: int, size: int = 5) -> list[list[str]]:
    results = []
    with transaction() as session:
        for n in range(times):
            plan = sampling.plan_batch(session, run, dataset, size, random.Random(n))
            results.append(plan["parents"] if plan else None)
    return results


def test_answers_take_every_record_once_and_end(dataset):
    run = run_on(dataset, "responses", parents={"answered": True})
    drawn_batches = drawn(dataset, run, 6)
    assert [len(item or ()) for item in drawn_batches] == [5, 5, 5, 5, 4, 0]
    assert drawn_batches[-1] is None
    assert len({id for item in drawn_batches if item for id in item}) == 24


def test_evolution_begins_again_in_another_order(dataset):
    drawn_batches = drawn(dataset, run_on(dataset, "evol_instruct"), 2, size=24)
    assert sorted(drawn_batches[0]) == sorted(drawn_batches[1]) and drawn_batches[0] != drawn_batches[1]
    assert drawn(dataset, run_on(dataset, "evol_instruct"), 1, size=24)[0] == drawn_batches[0]
    assert drawn(dataset, run_on(dataset, "evol_instruct", seed=2), 1, size=24)[0] != drawn_batches[0]


def test_a_plan_is_read_back_as_the_same_batch(dataset):
    run = run_on(dataset, "evol_instruct")
    with transaction() as session:
        plan = sampling.plan_batch(session, run, dataset, 3, random.Random(1))
        batch = sampling.load_batch(session, run, dataset, plan)
    assert [parent.id for parent in batch.parents] == plan["parents"] and batch.size == 3
    assert batch.seed == plan["seed"]


def test_a_child_may_be_near_to_the_family_of_its_parent_whichever_row_it_grew_from(dataset):
    with transaction() as session:
        rows = session.query(Record).filter(Record.dataset_id == dataset.id).all()
    for row in rows:
        assert row.group_id in sampling.to_parent(row).ancestors
    assert any(row.group_id != row.id for row in rows)


def test_a_filter_lets_through_what_fits_it(dataset):
    assert len(drawn(dataset, run_on(dataset, "evol_instruct", parents={"text": "11th river"}), 1, size=2)[0]) == 2
    assert drawn(dataset, run_on(dataset, "evol_instruct", parents={"topic": "tea"}), 1) == [None]
    judged = {"minimum_scores": {"judge.overall": 1}}
    assert drawn(dataset, run_on(dataset, "evol_instruct", parents=judged), 1) == [None]
