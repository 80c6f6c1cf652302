"""The ledger: reserved before, settled after, never bought twice, never over a ceiling."""

import threading
import time
from dataclasses import replace
from decimal import Decimal

import pytest
from sqlalchemy import func, select

from app.access import service as access
from app.access.service import Caller
from app.calls import ledger
from app.datasets import service as datasets
from app.datasets.schemas import DatasetCreate
from app.db import transaction
from app.ids import new_id
from app.jobs.leases import Claim, LeaseLost, claim
from app.runs import service, store
from app.synth.types import Reply, Usage
from app.tables.runs import Batch, Completion, Run

SEEDS = {"tasks": [{"instruction": "Name three fruits that are red", "instances": [{"output": "apple"}]}]}


def make_run(**ceilings) -> str:
    with transaction() as session:
        project = access.ensure_project(session, "ledger")
        dataset = datasets.create(
            session, Caller(project.id, "k"), DatasetCreate(name=f"set {time.time_ns()}", seeds=SEEDS)
        )
        run = Run(
            id=new_id("run"),
            project_id=project.id,
            dataset_id=dataset.id,
            method="self_instruct",
            teacher="t",
            options={},
            seed=0,
            target=10,
            rejected_by_reason={},
            **ceilings,
        )
        session.add(run)
        session.flush()
        run.move("running")
        return run.id


def make_batch(run_id: str, number: int = 0) -> Claim:
    with transaction() as session:
        batch = Batch(id=new_id("bat"), run_id=run_id, number=number, status="leased", lease_token=0, attempt=0)
        session.add(batch)
        session.flush()
        return claim(session, batch)


def call_of(run_id: str, held: Claim, key: str = "k", tokens: int = 100, usd: str = "0.01") -> ledger.Call:
    return ledger.Call(run_id, held.id, "instructions", "t", "m", f"{run_id}-{key}", {}, tokens, Decimal(usd))


PAID = ledger.Paid(Reply("text", usage=Usage(30, 10, 20), simulated=True), "m-1", False, Decimal("0.002"))


def run_of(id: str) -> Run:
    with transaction() as session:
        return session.get(Run, id)


@pytest.fixture
def run_id(database) -> str:
    return make_run()


def test_reserved_then_settled_then_found(run_id):
    held = make_batch(run_id)
    call = call_of(run_id, held)
    assert ledger.begin(call, held) == 1
    run = run_of(run_id)
    assert (run.reserved_requests, run.reserved_tokens, run.reserved_usd) == (1, 100, Decimal("0.01"))
    ledger.settle(call, 1, PAID)
    run = run_of(run_id)
    assert (run.reserved_requests, run.reserved_tokens, run.reserved_usd) == (0, 0, 0)
    assert (run.requests, run.prompt_tokens, run.cached_tokens, run.completion_tokens) == (1, 30, 10, 20)
    assert (run.cost_usd, run.simulated) == (Decimal("0.002"), True)
    found = ledger.begin(call, held)
    assert (found.text, found.usage, found.id, found.simulated) == ("text", Usage(30, 10, 20), call.key, True)
    assert run_of(run_id).requests == 1


def test_a_call_in_flight_at_a_kill_is_charged_at_its_worst_and_repeated(run_id):
    held = make_batch(run_id)
    call = call_of(run_id, held)
    ledger.begin(call, held)
    assert ledger.begin(call, held) == 2
    run = run_of(run_id)
    assert (run.requests, run.unknown_requests, run.unknown_tokens, run.cost_usd) == (1, 1, 100, Decimal("0.01"))
    assert run.reserved_requests == 1


def test_an_answer_that_comes_late_is_kept_and_not_charged_again(run_id):
    held = make_batch(run_id)
    call = call_of(run_id, held)
    ledger.begin(call, held)
    ledger.begin(call, held)
    ledger.settle(call, 1, PAID)
    assert run_of(run_id).cost_usd == Decimal("0.01")
    ledger.settle(call, 2, replace(PAID, reply=Reply("other", usage=Usage(1, 0, 1))))
    assert ledger.begin(call, held).text == "text"
    run = run_of(run_id)
    assert (run.cost_usd, run.reserved_requests, run.requests) == (Decimal("0.012"), 0, 2)


def test_a_failed_call_costs_nothing_unless_it_may_have_been_served(run_id):
    held = make_batch(run_id)
    for key, unknown in (("a", False), ("b", True)):
        call = call_of(run_id, held, key)
        ledger.give_up(call, ledger.begin(call, held), unknown)
    run = run_of(run_id)
    assert (run.requests, run.unknown_requests, run.cost_usd) == (1, 1, Decimal("0.01"))
    assert run.reserved_requests == 0


@pytest.mark.parametrize(
    ("ceilings", "name", "served"),
    [
        ({"max_requests": 3}, "max_requests", 3),
        ({"max_tokens": 250}, "max_tokens", 4),
        ({"max_usd": Decimal("0.015")}, "max_usd", 3),
    ],
)
def test_no_ceiling_is_overrun(database, ceilings, name, served):
    run_id = make_run(**ceilings)
    held = make_batch(run_id)
    for n in range(served):
        call = call_of(run_id, held, str(n))
        ledger.settle(call, ledger.begin(call, held), PAID)
    with pytest.raises(ledger.CeilingReached) as found:
        ledger.begin(call_of(run_id, held, "one more"), held)
    assert found.value.name == name
    run = run_of(run_id)
    assert run.requests == served
    assert run.reserved_requests == 0


def test_many_workers_at_once_stay_under_the_ceiling(database):
    run_id = make_run(max_requests=10)
    held = make_batch(run_id)
    begun, refused = [], []

    def worker(n: int):
        try:
            begun.append(ledger.begin(call_of(run_id, held, str(n)), held))
        except (ledger.BudgetContention, ledger.CeilingReached) as error:
            refused.append(error)

    threads = [threading.Thread(target=worker, args=(n,)) for n in range(24)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert (len(begun), len(refused)) == (10, 14)
    assert all(isinstance(error, ledger.BudgetContention) for error in refused)


@pytest.mark.parametrize("change", ["pausing", "cancelling", "stopping"])
def test_a_run_that_is_about_to_rest_takes_no_calls(run_id, change):
    held = make_batch(run_id)
    with transaction() as session:
        run = store.locked_run(session, run_id)
        if change == "stopping":
            service.stop(session, run_id, "max_seconds")
        else:
            run.move(change)
    with pytest.raises(ledger.Ending if change == "stopping" else ledger.Stopped):
        ledger.begin(call_of(run_id, held), held)


def test_a_worker_that_lost_its_lease_pays_nothing(run_id):
    held = make_batch(run_id)
    stale = replace(held, token=held.token - 1)
    with pytest.raises(LeaseLost):
        ledger.begin(call_of(run_id, stale), stale)
    assert run_of(run_id).reserved_requests == 0


def test_the_end_of_a_run_closes_its_books(run_id):
    held = make_batch(run_id)
    call = call_of(run_id, held)
    ledger.begin(call, held)
    with transaction() as session:
        service.end(session, store.locked_run(session, run_id), "cancelled", "cancelled")
    run = run_of(run_id)
    assert (run.status, run.stop_reason) == ("cancelled", "cancelled")
    assert (run.reserved_requests, run.unknown_requests) == (0, 1)
    ledger.settle(call, 1, PAID)
    with transaction() as session:
        row = session.get(Completion, call.key)
        total = session.scalar(select(func.sum(Completion.cost_usd)).where(Completion.run_id == run_id))
    assert (row.status, row.text) == ("done", "text")
    assert run_of(run_id).cost_usd == total == Decimal("0.01")


def test_the_key_covers_the_whole_request_and_its_place():
    base = ("run", "batch", "position", "http://a", {"model": "m", "messages": [], "seed": 1})
    keys = {ledger.key_of(*base)}
    others = ["run2", "batch2", "position2", "http://b", {"model": "m", "messages": [], "seed": 2}]
    for place, other in enumerate(others):
        changed = list(base)
        changed[place] = other
        keys.add(ledger.key_of(*changed))
    assert len(keys) == 6
    assert ledger.key_of(*base[:4], {"seed": 1, "messages": [], "model": "m"}) == ledger.key_of(*base)
