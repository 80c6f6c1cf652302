"""The two implementations of the material give the same: filters let the same rows through, plans are the same."""

import random
import time
from itertools import islice, product

import pytest
from sqlalchemy import select

from app.access import service as access
from app.access.service import Caller
from app.calls import service as accounts
from app.datasets import sampling_queries
from app.datasets import service as datasets
from app.datasets.schemas import DatasetCreate
from app.persistence.db import transaction
from app.persistence.ids import new_id
from app.runs import sampling
from app.runs.sampling import PostgresMaterial
from app.synth.methods.material import draw_plan, load_plan
from app.synth.methods.parents import ParentFilter, passes_filter
from app.synth.methods.registry import METHODS
from app.synth.notebook.in_memory_material import InMemoryMaterial
from app.tables.datasets import Dataset, Import, Record, Source
from app.tables.runs import Run

TASKS = [
    {
        "instruction": f"Name the {n}th river of the north",
        "instances": [{"output": f"The Ob {n}"}, {"input": "in Asia", "output": "The Lena"}],
        "is_classification": n % 2 == 0,
    }
    for n in range(6)
]
TEXTS = ("Name a RIVER in the Straße", "서울의 강을 하나 말하세요", "100% of Ähren", "name_a_lake")
FILTERS = (
    {},
    {"origin": "seed"},
    {"origin": "generated"},
    {"origin": "imported"},
    {"method": "responses"},
    {"operation": "deepen"},
    {"topic": "tea"},
    {"text": "river"},
    {"text": "강을"},
    {"text": "ähr"},
    {"text": "0% o"},
    {"text": "e_a"},
    {"answered": True},
    {"answered": False},
    {"minimum_scores": {"judge.overall": 3.5}},
    {"minimum_scores": {"judge.overall": 3.0, "rule.length_fit": 0.5}},
    {"origin": "generated", "topic": "tea", "answered": True},
)


@pytest.fixture(scope="module")
def dataset(database) -> Dataset:
    """Seeds, rows of another run with all kinds of fields, labelled rows and passages."""
    with transaction() as session:
        project = access.ensure_project(session, "material")
        body = DatasetCreate(name=f"set {time.time_ns()}", seeds={"tasks": TASKS})
        dataset = datasets.create(session, Caller(project.id, "k"), body)
        id = new_id("run")
        account = accounts.open_account(session, project.id, dataset.id, ("run", id), {})
        run = Run(id=id, account_id=account.id, **_run_columns(project.id, dataset.id))
        session.add(run)
        session.flush()
        fields = product(TEXTS, ("", "an answer"), ("responses", "evol_instruct"), (None, "tea"), (None, 3.0, 4.0))
        for n, (text, output, method, topic, score) in enumerate(fields):
            id = new_id("rec")
            session.add(
                Record(
                    id=id,
                    dataset_id=dataset.id,
                    origin=("generated", "imported")[n % 3 == 0],
                    status="accepted",
                    pool_position=dataset.last_pool_position + n + 1,
                    group_id=id,
                    instruction=text,
                    input=str(n),
                    output=output,
                    language="en",
                    content_hash=str(n).encode(),
                    run_id=run.id if n % 2 else None,
                    method=method,
                    operation="deepen" if n % 4 else None,
                    scores={} if score is None else {"judge.overall": score, "rule.length_fit": n % 3 / 2},
                    tags={} if topic is None else {"topic": topic},
                    lineage={"resembles": []},
                )
            )
        session.add(_import(project.id, dataset.id))
        session.flush()
        session.add_all(_sources(dataset.id))
    return dataset


def _run_columns(project_id: str, dataset_id: str) -> dict:
    return {
        "project_id": project_id,
        "dataset_id": dataset_id,
        "method": "evol_instruct",
        "options": {},
        "seed": 5,
        "target": 10,
        "status": "succeeded",
        "stop_reason": "target_reached",
        "rejected_by_reason": {},
        "cursor": {},
        "batches_planned": 0,
    }


def _import(project_id: str, dataset_id: str) -> Import:
    return Import(
        id=f"imp_{dataset_id}",
        project_id=project_id,
        dataset_id=dataset_id,
        kind="labelled",
        file="x",
        rows=1,
        status="succeeded",
        stop_reason="completed",
        rejected_by_reason={},
    )


def _sources(dataset_id: str):
    for n in range(40):
        task = ("sentiment", "nli")[n % 4 == 0]
        passage = {"document": f"document-{n % 3}", "title": "t", "text": f"passage {n}", "start": n, "end": n + 9}
        for kind, name, fields in (("labelled", task, {"text": str(n)}), ("passage", "", passage)):
            yield Source(
                id=new_id("src"),
                dataset_id=dataset_id,
                import_id=f"imp_{dataset_id}",
                kind=kind,
                task=name,
                fields=fields,
                content_hash=f"{kind}{n}".encode(),
            )


def all_parents(session, dataset: Dataset) -> list:
    query = (
        select(Record)
        .where(Record.dataset_id == dataset.id, Record.pool_position.is_not(None))
        .order_by(Record.pool_position)
    )
    return [sampling.to_parent(row) for row in session.scalars(query)]


@pytest.mark.parametrize("chosen", [ParentFilter(**fields) for fields in FILTERS], ids=[str(f) for f in FILTERS])
def test_the_predicate_and_the_sql_let_the_same_records_through(dataset, chosen):
    with transaction() as session:
        parents = all_parents(session, dataset)
        rows = sampling_queries.list_next_parents(session, dataset.id, chosen, "run_other", None, "salt", "", 10_000)
        by_sql = {id for id, _ in rows}
        assert sampling_queries.count_parents(session, dataset.id, chosen) == len(by_sql)
    assert {parent.id for parent in parents if passes_filter(parent, chosen)} == by_sql
    assert by_sql and (chosen == ParentFilter() or len(by_sql) < len(parents))


def test_rows_of_a_run_by_its_id(dataset):
    with transaction() as session:
        parents = all_parents(session, dataset)
        (run_id,) = {parent.run_id for parent in parents} - {None}
        chosen = ParentFilter(run_id=run_id)
        rows = sampling_queries.list_next_parents(session, dataset.id, chosen, "run_other", None, "salt", "", 10_000)
        by_sql = {id for id, _ in rows}
    assert {parent.id for parent in parents if passes_filter(parent, chosen)} == by_sql != set()


def in_memory(session, dataset: Dataset) -> InMemoryMaterial:
    """The same material, by the same ids."""
    postgres = PostgresMaterial(session, Run(id="run_other", **_run_columns("", dataset.id)), dataset)
    seeds = [postgres.demonstrations([id])[id] for id, _ in postgres.seeds()]
    rows = list(session.scalars(select(Source).where(Source.dataset_id == dataset.id)))
    sources = {kind: list(postgres.sources([r.id for r in rows if r.kind == kind]).values()) for kind in KINDS}
    return InMemoryMaterial(seeds, all_parents(session, dataset), sources["labelled"], sources["passage"])


KINDS = ("labelled", "passage")
DRAWING = {
    "evol_instruct": {"parents": {"answered": True}},
    "responses": {},
    "dialogue": {},
    "templates": {"uses": 2, "demonstrations": 1, "mixing_temperature": 2},
    "documents": {},
    "self_instruct": {"pool_demonstrations": 0, "topics": ["tea", "rain"], "task_types": {"a": 0.5, "b": 0.5}},
    "safety": {},
}


def test_every_method_is_drawn_for():
    assert set(DRAWING) == set(METHODS)


@pytest.mark.parametrize("method", DRAWING)
def test_the_same_rows_are_drawn_in_the_same_order_in_memory_and_in_postgres(dataset, method):
    options = METHODS[method].options.model_validate(DRAWING[method])
    run = Run(id="run_other", **_run_columns("", dataset.id) | {"method": method})
    with transaction() as session:
        materials = [PostgresMaterial(session, run, dataset), in_memory(session, dataset)]
        drawn = [list(islice(plans(item, method, options), 12)) for item in materials]
        batches = [
            [load_plan(item, plan, options, "en") for plan in each if plan]
            for item, each in zip(materials, drawn, strict=True)
        ]
    assert drawn[0] == drawn[1] and drawn[0][0] is not None
    assert batches[0] == batches[1]


def plans(material, method: str, options):
    cursor: dict = {}
    for number in range(1000):
        size = METHODS[method].batch_size(options)
        plan, cursor = draw_plan(material, cursor, method, options, 7, number, size, random.Random(number))
        yield plan


def test_the_plan_of_a_batch_that_was_stored_before_is_read(dataset):
    """A plan as the first release stored it."""
    run = Run(id="run_other", **_run_columns("", dataset.id) | {"method": "self_instruct"})
    with transaction() as session:
        head, *_ = PostgresMaterial(session, run, dataset).seeds()
        stored = {
            "proposals": 3,
            "seed": 9,
            "demonstrations": [head[0]],
            "examples": [head[0]],
            "focus": {"topic": "x"},
        }
        batch = sampling.load_batch(session, run, dataset, stored)
    assert (batch.size, batch.seed, batch.conditioning) == (3, 9, {"topic": "x"})
    assert [demonstration.id for demonstration in batch.demonstrations] == [head[0]] and len(
        batch.examples[0].instances
    ) == 2
