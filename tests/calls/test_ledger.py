"""The ledger: reserved before, posted after, never bought twice, never over a ceiling."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal

import pytest
from sqlalchemy import select

from app.access import service as access
from app.access.service import Caller
from app.calls import ledger
from app.calls import service as accounts
from app.calls.costs import AnsweredCalls, Estimate, Estimator
from app.calls.ledger_entries import (
    AccountEnding,
    AccountStopped,
    BudgetContention,
    Call,
    CeilingReached,
    PaidReply,
    completion_key,
)
from app.calls.schemas import UsageView
from app.datasets import service as datasets
from app.datasets.schemas import DatasetCreate
from app.jobs.leases import Claim, LeaseLost, claim_row
from app.persistence.db import transaction
from app.persistence.ids import new_id
from app.runs import service, store
from app.synth.types import Reply, Usage
from app.tables.accounts import Account, Completion, LostCall
from app.tables.runs import Batch, Run

SEEDS = {"tasks": [{"instruction": "Name three fruits that are red", "instances": [{"output": "apple"}]}]}


@dataclass(frozen=True)
class Owner:
    """A run, whose batches are the units of work, and its account."""

    run_id: str
    account_id: str
    caller: Caller


def make_owner(**ceilings) -> Owner:
    with transaction() as session:
        project = access.ensure_project(session, "ledger")
        caller = Caller(project.id, "k")
        dataset = datasets.create(session, caller, DatasetCreate(name=f"set {time.time_ns()}", seeds=SEEDS))
        id = new_id("run")
        account = accounts.open_account(session, project.id, dataset.id, ("run", id), ceilings)
        run = Run(
            id=id,
            project_id=project.id,
            account_id=account.id,
            dataset_id=dataset.id,
            method="self_instruct",
            teacher="t",
            options={},
            seed=0,
            target=10,
            rejected_by_reason={},
        )
        session.add(run)
        session.flush()
        service.move(session, run, "running")
        return Owner(id, account.id, caller)


def make_batch(owner: Owner, number: int = 0) -> Claim:
    with transaction() as session:
        batch = Batch(id=new_id("bat"), run_id=owner.run_id, number=number, status="leased", lease_token=0, attempt=0)
        session.add(batch)
        session.flush()
        return claim_row(session, batch)


def call_of(owner: Owner, held: Claim, key: str = "k", tokens: int = 100, usd: str = "0.01", step="s") -> Call:
    key = f"{owner.account_id}-{key}"
    return Call(owner.account_id, held.id, step, "t", "m", key, {}, tokens, Decimal(usd))


def paid(prompt: int = 30, completion: int = 20, usd: str = "0.002", text: str = "text") -> PaidReply:
    reply = Reply(text, usage=Usage(prompt, 10, completion), simulated=True)
    return PaidReply(reply, "m-1", False, Decimal(usd))


PAID = paid()


def account_of(owner: Owner) -> Account:
    with transaction() as session:
        return session.get(Account, owner.account_id)


def usage_of(owner: Owner) -> UsageView:
    with transaction() as session:
        return accounts.show(session, owner.caller, owner.account_id).usage


def check_sums(owner: Owner) -> None:
    """The account's counters are the sums of its completions and lost calls."""
    with transaction() as session:
        account = session.get(Account, owner.account_id)
        rows = session.scalars(select(Completion).where(Completion.account_id == account.id)).all()
        lost = session.scalars(select(LostCall).where(LostCall.account_id == account.id)).all()
    assert account.cost_usd == sum(row.cost_usd for row in rows)
    assert account.prompt_tokens == sum(row.prompt_tokens for row in rows)
    assert account.completion_tokens == sum(row.completion_tokens for row in rows)
    assert account.reserved_usd == sum(row.reserved_usd for row in rows)
    assert account.reserved_tokens == sum(row.reserved_tokens for row in rows)
    assert account.lost_requests == len(lost) == sum(row.lost_tries for row in rows)
    assert (account.held_usd, account.held_tokens) == (sum(x.held_usd for x in lost), sum(x.held_tokens for x in lost))


@pytest.fixture
def owner(database) -> Iterator[Owner]:
    owner = make_owner()
    yield owner
    check_sums(owner)


def lose(owner: Owner, held: Claim, key: str = "k", step: str = "s") -> Call:
    """A call whose worker was killed: a second one takes the unit over, and gives it back unused."""
    call = call_of(owner, held, key, step=step)
    ledger.post_failure(call, ledger.reserve(call, held), unknown=True)
    return call


def test_reserved_then_settled_then_found(owner):
    held = make_batch(owner)
    call = call_of(owner, held)
    assert ledger.reserve(call, held) == 1
    account = account_of(owner)
    assert (account.reserved_requests, account.reserved_tokens, account.reserved_usd) == (1, 100, Decimal("0.01"))
    ledger.post_answer(call, 1, PAID)
    account = account_of(owner)
    assert (account.reserved_requests, account.reserved_tokens, account.reserved_usd) == (0, 0, 0)
    assert (account.prompt_tokens, account.cached_tokens, account.completion_tokens) == (30, 10, 20)
    assert (account.requests, account.cost_usd, account.simulated) == (1, Decimal("0.002"), True)
    begun_call = ledger.reserve(call, held)
    assert (begun_call.text, begun_call.usage, begun_call.id, begun_call.simulated) == (
        "text",
        Usage(30, 10, 20),
        call.key,
        True,
    )
    assert account_of(owner).requests == 1


def test_a_call_in_flight_at_a_kill_is_lost_and_repeated(owner):
    held = make_batch(owner)
    call = call_of(owner, held)
    ledger.reserve(call, held)
    assert ledger.reserve(call, held) == 2
    account = account_of(owner)
    assert (account.requests, account.lost_requests, account.cost_usd) == (0, 1, 0)
    assert (account.held_tokens, account.held_usd, account.reserved_requests) == (100, Decimal("0.01"), 1)
    # Nothing was answered yet: the worst case is all that is known of it, and the second try may cost as much.
    usage = usage_of(owner)
    assert (usage.certain_usd, usage.possible_usd, usage.held_usd) == ("0", "0.01", "0.02")


def test_an_answer_that_comes_late_is_certain_and_its_hold_goes(owner):
    held = make_batch(owner)
    call = call_of(owner, held)
    ledger.reserve(call, held)
    ledger.reserve(call, held)
    ledger.post_answer(call, 1, PAID)
    account = account_of(owner)
    assert (account.requests, account.lost_requests, account.held_usd) == (1, 0, 0)
    assert (account.cost_usd, account.reserved_requests) == (Decimal("0.002"), 1)
    ledger.post_answer(call, 2, paid(1, 1, "0.001", "other"))
    # Both were billed. The first text is kept.
    assert ledger.reserve(call, held).text == "text"
    account = account_of(owner)
    assert (account.requests, account.cost_usd, account.reserved_requests) == (2, Decimal("0.003"), 0)
    ledger.post_answer(call, 1, PAID)
    assert account_of(owner).cost_usd == Decimal("0.003"), "an answer is booked once"


def test_the_answer_to_a_new_try_prices_the_lost_one(owner):
    held = make_batch(owner)
    call = call_of(owner, held)
    ledger.reserve(call, held)
    ledger.post_answer(call, ledger.reserve(call, held), PAID)
    account = account_of(owner)
    assert (account.requests, account.lost_requests) == (1, 1)
    assert (account.held_tokens, account.held_usd) == (50, Decimal("0.002"))
    usage = usage_of(owner)
    assert (usage.cost_usd, usage.certain_usd, usage.possible_usd) == ("0.004", "0.002", "0.002")
    assert (usage.requests, usage.unknown_requests, usage.unknown_tokens) == (2, 1, 50)
    # The lost try's own answer, later still.
    ledger.post_answer(call, 1, PAID)
    account = account_of(owner)
    assert (account.lost_requests, account.held_usd, account.cost_usd) == (0, 0, Decimal("0.004"))


def test_a_try_that_is_lost_after_its_request_was_answered_holds_no_more_than_the_answer(owner):
    held = make_batch(owner)
    call = call_of(owner, held)
    ledger.reserve(call, held)
    second = ledger.reserve(call, held)
    ledger.post_answer(call, 1, PAID)
    ledger.post_failure(call, second, unknown=True)
    account = account_of(owner)
    assert (account.reserved_requests, account.lost_requests, account.held_usd) == (0, 1, Decimal("0.002"))
    assert ledger.reserve(call, held).text == "text"


def test_the_reservation_of_a_dead_worker_goes_though_the_request_was_answered(owner):
    held = make_batch(owner)
    call = call_of(owner, held)
    ledger.reserve(call, held)
    ledger.reserve(call, held)
    ledger.post_answer(call, 1, PAID)
    with transaction() as session:
        service.end(session, store.locked_run(session, owner.run_id), "cancelled", "cancelled")
    account = account_of(owner)
    assert (account.reserved_requests, account.lost_requests, account.held_usd) == (0, 1, Decimal("0.002"))


def test_a_failed_call_costs_nothing_unless_it_may_have_been_served(owner):
    held = make_batch(owner)
    for key, unknown in (("a", False), ("b", True)):
        call = call_of(owner, held, key)
        ledger.post_failure(call, ledger.reserve(call, held), unknown)
    account = account_of(owner)
    assert (account.lost_requests, account.cost_usd, account.held_usd) == (1, 0, Decimal("0.01"))
    assert account.reserved_requests == 0


def test_a_lost_try_that_was_not_served_after_all_holds_nothing(owner):
    held = make_batch(owner)
    call = call_of(owner, held)
    ledger.reserve(call, held)
    ledger.reserve(call, held)
    ledger.post_failure(call, 1, unknown=False)
    account = account_of(owner)
    assert (account.lost_requests, account.held_usd, account.reserved_requests) == (0, 0, 1)


def test_a_lost_call_is_shown_at_the_mean_of_its_step_and_held_at_its_worst(owner):
    held = make_batch(owner)
    for key, usd, step in (("a", "0.001", "s"), ("b", "0.003", "s"), ("c", "0.005", "other")):
        call = call_of(owner, held, key, step=step)
        ledger.post_answer(call, ledger.reserve(call, held), paid(usd=usd))
    lose(owner, held, "d", "s")
    usage = usage_of(owner)
    assert (usage.certain_usd, usage.possible_usd, usage.cost_usd) == ("0.009", "0.002", "0.011")
    assert (usage.held_usd, usage.unknown_tokens) == ("0.01", 50)
    # A step of which nothing was answered is taken for the mean of all.
    lose(owner, held, "e", "new")
    assert usage_of(owner).possible_usd == "0.005"


def test_an_estimate_never_passes_the_worst_case():
    lost = LostCall(step="s", state="unsettled", held_tokens=10, held_usd=Decimal("0.001"))
    answered = [AnsweredCalls("acc", "s", 2, 1000, Decimal("1"))]
    assert Estimator(answered).estimate(lost) == Estimate(10, Decimal("0.001"))
    assert Estimator([]).estimate(lost) == Estimate(10, Decimal("0.001"))


def test_the_operator_lets_go_of_the_holds_and_the_calls_stay_lost(owner):
    held = make_batch(owner)
    call = call_of(owner, held, "a")
    ledger.post_answer(call, ledger.reserve(call, held), PAID)
    lost = lose(owner, held, "b")
    assert account_of(owner).held_usd == Decimal("0.01")
    with transaction() as session:
        usage = accounts.release(session, owner.caller, owner.account_id).usage
    assert (usage.held_usd, usage.possible_usd, usage.unknown_requests) == ("0.002", "0.002", 1)
    with transaction() as session:
        report = accounts.report(session, session.get(Account, owner.account_id))
    (shown,) = report.lost_calls
    assert (shown.key, shown.state, shown.worst_usd, shown.held_usd) == (lost.key, "released", "0.01", "0.002")
    # It is still settled by its own answer.
    ledger.post_answer(lost, 1, paid(usd="0.004"))
    account = account_of(owner)
    assert (account.lost_requests, account.held_usd, account.cost_usd) == (0, 0, Decimal("0.006"))


def test_a_release_before_any_answer_leaves_the_holds_to_be_lowered_later(owner):
    held = make_batch(owner)
    lost = lose(owner, held, "a")
    with transaction() as session:
        usage = accounts.release(session, owner.caller, owner.account_id).usage
    assert usage.held_usd == "0.01"
    other = call_of(owner, held, "b")
    ledger.post_answer(other, ledger.reserve(other, held), paid(usd="0.003"))
    with transaction() as session:
        usage = accounts.release(session, owner.caller, owner.account_id).usage
    assert (usage.held_usd, usage.possible_usd) == ("0.003", "0.003")
    # The answer to another try of the request lowers what was released, too.
    ledger.post_answer(lost, ledger.reserve(lost, held), paid(usd="0.001"))
    account = account_of(owner)
    assert (account.lost_requests, account.held_usd, account.cost_usd) == (1, Decimal("0.001"), Decimal("0.004"))


def test_a_hold_counts_against_the_ceiling_until_it_is_released(database):
    owner = make_owner(max_usd="0.015")
    held = make_batch(owner)
    call = call_of(owner, held, "a")
    ledger.post_answer(call, ledger.reserve(call, held), PAID)
    lose(owner, held, "b")
    with pytest.raises(CeilingReached) as refusal:
        ledger.reserve(call_of(owner, held, "c"), held)
    assert refusal.value.name == "max_usd"
    with transaction() as session:
        accounts.release(session, owner.caller, owner.account_id)
    assert ledger.reserve(call_of(owner, held, "c"), held) == 1


def test_the_report_adds_up_by_step_teacher_and_operation(owner):
    held = make_batch(owner)
    for key, step in (("a", "s"), ("b", "s"), ("c", "other")):
        call = replace(call_of(owner, held, key, step=step), operation="deepen" if step == "s" else None)
        ledger.post_answer(call, ledger.reserve(call, held), PAID)
    lose(owner, held, "d", "s")
    with transaction() as session:
        report = accounts.report(session, session.get(Account, owner.account_id))
    by_step = {
        row.name: (row.calls, row.tries, row.certain_usd, row.possible_usd, row.cost_usd) for row in report.steps
    }
    assert by_step == {"s": (3, 3, "0.004", "0.002", "0.006"), "other": (1, 1, "0.002", "0", "0.002")}
    assert [(row.name, row.calls, row.cost_usd) for row in report.teachers] == [("t", 4, "0.008")]
    assert {row.name: row.cost_usd for row in report.operations} == {"deepen": "0.004", None: "0.004"}
    assert report.usage.cost_usd == "0.008"


@pytest.mark.parametrize(
    ("ceilings", "name", "served"),
    [
        ({"max_requests": 3}, "max_requests", 3),
        ({"max_tokens": 250}, "max_tokens", 4),
        ({"max_usd": Decimal("0.015")}, "max_usd", 3),
    ],
)
def test_no_ceiling_is_overrun(database, ceilings, name, served):
    owner = make_owner(**ceilings)
    held = make_batch(owner)
    for n in range(served):
        call = call_of(owner, held, str(n))
        ledger.post_answer(call, ledger.reserve(call, held), PAID)
    with pytest.raises(CeilingReached) as found:
        ledger.reserve(call_of(owner, held, "one more"), held)
    assert found.value.name == name
    account = account_of(owner)
    assert (account.requests, account.reserved_requests) == (served, 0)


def test_many_workers_at_once_stay_under_the_ceiling(database):
    owner = make_owner(max_requests=10)
    held = make_batch(owner)
    begun, refused = [], []

    def worker(n: int):
        try:
            begun.append(ledger.reserve(call_of(owner, held, str(n)), held))
        except (BudgetContention, CeilingReached) as error:
            refused.append(error)

    threads = [threading.Thread(target=worker, args=(n,)) for n in range(24)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert (len(begun), len(refused)) == (10, 14)
    assert all(isinstance(error, BudgetContention) for error in refused)


@pytest.mark.parametrize("change", ["pausing", "cancelling", "stopping"])
def test_a_run_that_is_about_to_rest_takes_no_calls(owner, change):
    held = make_batch(owner)
    with transaction() as session:
        run = store.locked_run(session, owner.run_id)
        if change == "stopping":
            service.stop(session, owner.run_id, "max_seconds")
        else:
            service.move(session, run, change)
    with pytest.raises(AccountStopped if change == "pausing" else AccountEnding):
        ledger.reserve(call_of(owner, held), held)


def test_a_worker_that_lost_its_lease_pays_nothing(owner):
    held = make_batch(owner)
    stale = replace(held, token=held.token - 1)
    with pytest.raises(LeaseLost):
        ledger.reserve(call_of(owner, stale), stale)
    assert account_of(owner).reserved_requests == 0


def test_the_end_of_a_run_closes_its_account_and_a_late_answer_is_booked(owner):
    held = make_batch(owner)
    call = call_of(owner, held)
    ledger.reserve(call, held)
    with transaction() as session:
        service.end(session, store.locked_run(session, owner.run_id), "cancelled", "cancelled")
        run = session.get(Run, owner.run_id)
    account = account_of(owner)
    assert (run.status, run.stop_reason, account.state) == ("cancelled", "cancelled", "stopped")
    assert (account.reserved_requests, account.lost_requests, account.held_usd) == (0, 1, Decimal("0.01"))
    ledger.post_answer(call, 1, PAID)
    with transaction() as session:
        row = session.get(Completion, call.key)
    assert (row.status, row.text, row.cost_usd) == ("done", "text", Decimal("0.002"))
    account = account_of(owner)
    assert (account.cost_usd, account.lost_requests, account.held_usd) == (Decimal("0.002"), 0, 0)


def test_the_key_covers_the_whole_request_and_its_place():
    base = ("run", "batch", "position", "http://a", {"model": "m", "messages": [], "seed": 1})
    keys = {completion_key(*base)}
    others = ["run2", "batch2", "position2", "http://b", {"model": "m", "messages": [], "seed": 2}]
    for position, other in enumerate(others):
        changed = list(base)
        changed[position] = other
        keys.add(completion_key(*changed))
    assert len(keys) == 6
    assert completion_key(*base[:4], {"seed": 1, "messages": [], "model": "m"}) == completion_key(*base)


def test_a_teacher_that_exceeds_its_limit_overruns_a_ceiling_by_the_calls_in_flight_alone(database, capsys):
    owner = make_owner(max_tokens=1000, max_usd=Decimal("0.1"))
    batch, excessive = make_batch(owner), paid(prompt=50, completion=110, usd="0.016")
    first = [call_of(owner, batch, str(n)) for n in range(5)]
    for call in first:
        assert ledger.reserve(call, batch) == 1
    real, reserved = 5 * 160, 5 * 100
    ledger.post_answer(first[0], 1, excessive)
    # From the first such answer on, the calls in flight and the next one count as ones that may do the same.
    with pytest.raises(BudgetContention):
        ledger.reserve(call_of(owner, batch, "next"), batch)
    for call in first[1:]:
        ledger.post_answer(call, 1, excessive)
    number = 0
    with pytest.raises(CeilingReached):
        while True:
            call = call_of(owner, batch, f"later-{number}")
            ledger.reserve(call, batch)
            ledger.post_answer(call, 1, excessive)
            number += 1
    account = account_of(owner)
    spent = account.prompt_tokens + account.completion_tokens
    overrun = max(0, spent - 1000)
    with capsys.disabled():
        print(f"\nspent {spent} of 1000 tokens; overrun {overrun}, at most {real - reserved}")
    assert overrun == 0 and number > 0
    check_sums(owner)


def test_all_calls_in_flight_may_exceed_their_worst_case_before_any_answer_says_so(database):
    owner = make_owner(max_tokens=500)
    batch, excessive = make_batch(owner), paid(prompt=50, completion=110)
    calls = [call_of(owner, batch, str(n)) for n in range(5)]
    for call in calls:
        ledger.reserve(call, batch)
    for call in calls:
        ledger.post_answer(call, 1, excessive)
    account = account_of(owner)
    assert account.prompt_tokens + account.completion_tokens - 500 == 5 * 160 - 5 * 100
    with pytest.raises(CeilingReached):
        ledger.reserve(call_of(owner, batch, "next"), batch)
    check_sums(owner)
