"""Runs in this process against a scripted teacher over HTTP: their ends, and that nothing is paid twice."""

import asyncio
import json
import threading
import zlib
from dataclasses import replace
from decimal import Decimal
from functools import partial
from types import SimpleNamespace

import pytest
from redis import Redis
from sqlalchemy import delete, func, select

from app import config
from app.access.service import Caller
from app.calls.caller import RetryPolicy
from app.calls.ledger_writer import LedgerWriter
from app.calls.rate_limiter import RateLimiter
from app.datasets import store as dataset_store
from app.datasets.pools import Pools
from app.errors import AppError
from app.jobs import event_log, queue
from app.jobs.leases import seconds_from_now
from app.persistence.db import transaction
from app.runs import service
from app.runs.schemas import outcome_of
from app.runs.teachers import load_profile
from app.runs.worker import batch, batch_limit, planning, run_slice
from app.runs.worker.batch_limit import BatchLimit
from app.runs.worker.encoding import AsyncEncoder
from app.runs.worker.micro_batcher import MicroBatcher
from app.tables.accounts import Account, Completion
from app.tables.datasets import Record
from app.tables.runs import Batch, Run
from app.tables.teachers import TeacherCheck
from tests.fakes import (
    ScriptedSelfInstruct,
    chat,
    encoders,
    error,
    hash_encoder,
    instructions_wanted,
    unlike,
)
from tests.runs.conftest import SELF_INSTRUCT_FUNCTION
from tests.waiting import PROCESS_SECONDS, until
from workers.generation import teacher


async def no_delay(seconds: float) -> None:
    """Between two tries of a call, where only the number of tries matters."""


def run_of(id: str) -> Run:
    with transaction() as session:
        return session.get(Run, id)


def account_of(run_id: str) -> Account:
    with transaction() as session:
        return session.get(Account, session.get(Run, run_id).account_id)


def books_balance(run: Run) -> None:
    """Counters equal rows; cost equals completions; nothing stays reserved."""
    with transaction() as session:
        rows = session.execute(
            select(Record.status, Record.reason, func.count())
            .where(Record.run_id == run.id)
            .group_by(Record.status, Record.reason)
        ).all()
        paid = select(func.sum(Completion.cost_usd)).where(Completion.account_id == run.account_id)
        cost, account = session.scalar(paid) or 0, session.get(Account, run.account_id)
    assert run.accepted == sum(count for status, _, count in rows if status == "accepted")
    assert run.rejected_by_reason == {reason: count for status, reason, count in rows if status == "rejected"}
    assert run.rejected == sum(run.rejected_by_reason.values())
    assert (account.cost_usd, account.reserved_requests, account.reserved_usd) == (cost, 0, 0)


def test_a_run_ends_with_exactly_its_target(start):
    id, tools = start(ScriptedSelfInstruct(), target=37)
    run_slice.run_slice(id, tools)
    run = run_of(id)
    assert (run.status, run.stop_reason, run.accepted) == ("succeeded", "target_reached", 37)
    books_balance(run)


def test_a_function_as_the_teacher_ends_a_run_with_its_target(start):
    id, tools = start(ScriptedSelfInstruct(), teacher="f", target=7)
    run_slice.run_slice(id, tools)
    run = run_of(id)
    assert (run.status, run.stop_reason, run.accepted) == ("succeeded", "target_reached", 7)
    books_balance(run)
    with transaction() as session:
        query = select(Completion).where(Completion.account_id == run.account_id)
        models = {row.model for row in session.scalars(query)}
    assert models == {SELF_INSTRUCT_FUNCTION}


def test_a_function_that_is_not_there_ends_the_run_by_a_message_with_its_name(start):
    id, tools = start(ScriptedSelfInstruct(), teacher="missing", target=7)
    run_slice.run_slice(id, tools)
    run = run_of(id)
    assert (run.status, run.stop_reason) == ("failed", "model_unknown")
    assert "'no_such_module_here:teacher' can't be imported" in run.error
    books_balance(run)


def test_batch_mode_is_refused_where_the_protocol_has_no_remote_batches(start):
    with pytest.raises(AppError, match="'callable' has none; use the mode direct") as error_info:
        start(ScriptedSelfInstruct(), teacher="f", target=7, mode="batch")
    assert (error_info.value.status, error_info.value.errors[0].pointer) == (422, "/mode")


def test_faults_on_the_way_cost_no_row_and_are_not_paid_twice(start):
    def fault(body, count):
        remainder = zlib.crc32(json.dumps(body, sort_keys=True).encode()) % 5
        if count == 0 and remainder == 0:
            return 500, {}, error("server_error")
        if count == 0 and remainder == 1:
            return 429, {"retry-after-ms": "30"}, error("rate_limit_exceeded")
        return None

    script = ScriptedSelfInstruct(fault)
    id, tools = start(script, target=20)
    run_slice.run_slice(id, tools)
    run = run_of(id)
    assert (run.status, run.accepted, account_of(id).lost_requests) == ("succeeded", 20, 0)
    assert max(script.served.values()) <= 2
    books_balance(run)


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [(401, "invalid_api_key", "credentials_refused"), (404, "model_not_found", "model_unknown")],
)
def test_what_can_not_go_on_fails_in_words(start, status, code, reason):
    id, tools = start(ScriptedSelfInstruct(lambda body, count: (status, {}, error(code, "said the teacher"))), target=5)
    run_slice.run_slice(id, tools)
    run = run_of(id)
    assert (run.status, run.stop_reason) == ("failed", reason)
    assert "said the teacher" in run.error
    books_balance(run)


def test_a_field_that_the_teacher_refuses_is_left_out_from_then_on_and_reported_once(start):
    def refuse_temperatures(body: dict, count: int):
        message = "Unsupported parameter: 'temperature'"
        return (400, {}, error("unsupported_parameter", message)) if "temperature" in body else None

    id, tools = start(ScriptedSelfInstruct(refuse_temperatures), target=12)
    run_slice.run_slice(id, tools)
    run = run_of(id)
    assert (run.stop_reason, run.accepted, run.rejected_by_reason.get("request_refused")) == (
        "target_reached",
        12,
        None,
    )
    with transaction() as session:
        events = [event for event in event_log.read(session, id, 0) if event["type"] == "teacher_profile"]
        assert [event["data"] for event in events] == [{"teacher": "t", "change": "no temperature"}]
        assert load_profile(session, config.teachers()["t"])["drops"] == ["temperature"]
        session.execute(delete(TeacherCheck))
    books_balance(run)


def test_a_teacher_that_refuses_a_field_under_each_name_is_not_asked_for_ever(start):
    def refuse_limits(body: dict, count: int):
        name = next(name for name in ("max_tokens", "max_completion_tokens") if name in body)
        return 400, {}, error("unsupported_parameter", f"Unsupported parameter: '{name}'")

    script = ScriptedSelfInstruct(refuse_limits)
    id, tools = start(script, target=3)
    run_slice.run_slice(id, tools)
    run = run_of(id)
    assert (run.status, run.stop_reason) == ("failed", "request_refused")
    assert script.served.total() <= 40
    with transaction() as session:
        session.execute(delete(TeacherCheck))
    books_balance(run)


def test_a_refusal_that_no_table_knows_costs_its_proposal_while_other_prompts_are_answered(start):
    refusals = []

    def refuse_the_first_instance(body: dict, count: int):
        if body["response_format"]["json_schema"]["name"] == "instances" and not refusals:
            refusals.append(body)
        return (418, {}, error("teapot", "said the teacher")) if refusals[:1] == [body] else None

    id, tools = start(ScriptedSelfInstruct(refuse_the_first_instance), target=12)
    run_slice.run_slice(id, tools)
    run = run_of(id)
    assert (run.status, run.stop_reason, run.accepted) == ("succeeded", "target_reached", 12)
    assert run.rejected_by_reason["request_refused"] == 1
    books_balance(run)


def test_a_refusal_of_three_prompts_in_a_row_is_the_teachers(start):
    script = ScriptedSelfInstruct(lambda body, count: (418, {}, error("teapot", "said the teacher")))
    id, tools = start(script, target=12)
    run_slice.run_slice(id, tools)
    run = run_of(id)
    assert (run.status, run.stop_reason, run.accepted) == ("failed", "request_refused", 0)
    assert "said the teacher" in run.error and len(script.served) >= 3
    books_balance(run)


def test_prompts_that_the_content_filter_refuses_cost_their_proposals_alone(start):
    def filtered(body: dict, count: int):
        is_filtered = zlib.crc32(json.dumps(body, sort_keys=True).encode()) % 100 < 15
        return (400, {}, error("content_filter")) if is_filtered else None

    id, tools = start(ScriptedSelfInstruct(filtered), target=20)
    run_slice.run_slice(id, tools)
    run = run_of(id)
    assert (run.status, run.stop_reason, run.accepted) == ("succeeded", "target_reached", 20)
    assert run.rejected_by_reason["moderated"] > 0
    books_balance(run)


@pytest.mark.parametrize(
    ("reply", "message", "sample"),
    [
        (chat('{"instructions": ["Say', finish="length"), "raise instruction_tokens", '{"instructions": ["Say'),
        (chat("I would rather not."), 'set replies = "tagged"', "I would rather not."),
        (chat("", refusal="No."), "declines these prompts", "No."),
        (chat("<think>Hmm. " * 3, finish="length"), "raise thought_tokens", "Hmm."),
    ],
)
def test_a_run_pauses_when_nothing_usable_comes_and_goes_on_when_it_is_resumed(start, reply, message, sample):
    script = ScriptedSelfInstruct(lambda body, count: None if healed else (200, {}, reply))
    healed = []
    id, tools = start(script, target=12)
    run_slice.run_slice(id, tools)
    run = run_of(id)
    assert (run.status, run.paused_for, run.resume_at) == ("paused", "teacher_unusable", None)
    assert message in run.health["message"] and sample in run.health["samples"][0]
    assert script.served.total() <= 40
    healed.append(True)
    with transaction() as session:
        service.resume(session, Caller(run.project_id, "k"), id)
    run_slice.run_slice(id, tools)
    run = run_of(id)
    assert (run.stop_reason, outcome_of(run)) == ("target_reached", "complete")
    books_balance(run)


@pytest.mark.parametrize("ceiling", [{"max_requests": 9}, {"max_usd": 0.0012}, {"max_tokens": 4000}])
def test_a_ceiling_ends_the_run_by_its_name(start, ceiling):
    script = ScriptedSelfInstruct()
    id, tools = start(script, target=500, **ceiling)
    run_slice.run_slice(id, tools)
    run = run_of(id)
    (name,) = ceiling
    assert (run.status, run.stop_reason) == ("succeeded", name)
    account = account_of(id)
    assert script.served.total() == account.requests
    tokens = account.prompt_tokens + account.completion_tokens
    spent = {"max_requests": account.requests, "max_usd": account.cost_usd, "max_tokens": tokens}
    assert 0 < spent[name] <= ceiling[name]
    books_balance(run)


def test_a_teacher_that_repeats_itself_ends_by_the_ceiling_on_candidates(start):
    def repeat(body, count):
        return 200, {}, chat('{"instructions": ["Name three fruits that are red", "Name three fruits that are red"]}')

    id, tools = start(ScriptedSelfInstruct(repeat), target=5, max_candidates=11)
    run_slice.run_slice(id, tools)
    run = run_of(id)
    assert (run.status, run.stop_reason) == ("succeeded", "max_candidates")
    assert run.accepted + run.rejected == 11
    books_balance(run)


def test_one_bad_reply_costs_one_row(start):
    def fault(body, count):
        if body["response_format"]["json_schema"]["name"] == "instances" and body["seed"] % 2:
            return 200, {}, b"<html>not json</html>"
        return None

    id, tools = start(ScriptedSelfInstruct(fault), target=12)
    run_slice.run_slice(id, tools)
    run = run_of(id)
    assert (run.status, run.accepted) == ("succeeded", 12)
    books_balance(run)


class PoolsOfAWorkerThatDies(Pools):
    def precheck_and_lock(self, *args):
        raise KeyboardInterrupt


def test_a_batch_that_is_tried_again_asks_the_same_and_pays_nothing(start):
    script = ScriptedSelfInstruct()
    id, tools = start(script, target=8)
    seen = planning.plan_and_claim(id, 1)
    with transaction() as session:
        run = session.get(Run, id)
        dataset = dataset_store.find_dataset(session, run.project_id, run.dataset_id)
    dying = PoolsOfAWorkerThatDies(encoders())
    dying.prepare(dataset)

    async def work(claim):
        asked = teacher("t")
        who = {"teacher": asked, "judge": asked}
        limits = dict.fromkeys(who, RateLimiter(asked.endpoint))
        screens = MicroBatcher(partial(dying.prefilter, dataset.id))
        shared = (LedgerWriter(run.account_id), dying, AsyncEncoder(hash_encoder), screens, asyncio.Lock())
        try:
            await batch.process_batch(claim, batch.SliceContext(run, dataset, who, limits, *shared))
        finally:
            await limits["judge"].close()
            await asked.close()

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(work(seen.claims[0]))
    paid = script.served.total()
    with transaction() as session:
        session.get(Batch, seen.claims[0].id).lease_expires_at = seconds_from_now(-1)
    run_slice.run_slice(id, tools)
    run = run_of(id)
    assert (run.status, run.accepted) == ("succeeded", 8)
    assert max(script.served.values()) == 1
    assert paid == 9 and account_of(id).lost_requests == 0
    books_balance(run)


def test_pause_keeps_what_is_in_flight_and_resume_goes_on(start):
    script = ScriptedSelfInstruct(seconds=0.1)
    id, tools = start(script, target=60)
    caller = Caller(run_of(id).project_id, "k")
    working = threading.Thread(target=run_slice.run_slice, args=(id, tools))
    working.start()
    until(lambda: account_of(id).requests >= 5)
    with transaction() as session:
        assert service.pause(session, caller, id).status == "pausing"
    until(lambda: not working.is_alive())
    paused = run_of(id)
    account = account_of(id)
    assert (paused.status, account.reserved_requests, account.lost_requests) == ("paused", 0, 0)
    before = script.served.total()
    run_slice.run_slice(id, tools)
    assert script.served.total() == before
    with transaction() as session:
        service.resume(session, caller, id)
    run_slice.run_slice(id, tools)
    run = run_of(id)
    assert (run.status, run.accepted) == ("succeeded", 60)
    assert max(script.served.values()) == 1
    books_balance(run)


def test_cancel_waits_for_no_call_in_flight_and_keeps_what_was_accepted(start):
    enough, release = threading.Event(), threading.Event()

    def hang(body, count):
        if enough.is_set():
            release.wait(PROCESS_SECONDS)

    id, tools = start(ScriptedSelfInstruct(hang, seconds=0.05), target=500)
    caller = Caller(run_of(id).project_id, "k")
    working = threading.Thread(target=run_slice.run_slice, args=(id, tools))
    working.start()
    until(lambda: run_of(id).accepted > 0)
    enough.set()
    with transaction() as session:
        service.cancel(session, caller, id)
    # No call comes home any more, and none times out before ten minutes.
    until(lambda: not working.is_alive())
    release.set()
    run = run_of(id)
    assert (run.status, run.stop_reason) == ("cancelled", "cancelled")
    assert run.accepted > 0
    books_balance(run)
    with transaction() as session:
        assert service.cancel(session, caller, id).status == "cancelled"
        with pytest.raises(AppError) as found:
            service.resume(session, caller, id)
    assert found.value.status == 409


def test_rows_that_are_finished_when_the_run_is_cancelled_are_admitted_with_their_batch_still_open(start):
    answered, release = [], threading.Event()

    def hang_half_of_the_instances(body: dict, count: int):
        if body["response_format"]["json_schema"]["name"] != "instances":
            return
        if zlib.crc32(json.dumps(body, sort_keys=True).encode()) % 2:
            release.wait(PROCESS_SECONDS)
        answered.append(body)

    id, tools = start(ScriptedSelfInstruct(hang_half_of_the_instances), target=500)
    working = threading.Thread(target=run_slice.run_slice, args=(id, tools))
    working.start()
    until(lambda: len(answered) >= 8)
    assert run_of(id).accepted == 0
    with transaction() as session:
        service.cancel(session, Caller(run_of(id).project_id, "k"), id)
    until(lambda: not working.is_alive())
    release.set()
    run = run_of(id)
    assert (run.status, outcome_of(run)) == ("cancelled", "partial") and run.accepted > 0
    books_balance(run)


def test_a_run_waits_for_a_teacher_that_is_away_and_goes_on_by_itself(start):
    away = threading.Event()
    away.set()
    script = ScriptedSelfInstruct(lambda body, count: (500, {}, error("x", "out of order")) if away.is_set() else None)
    id, tools = start(script, target=12)
    tools = replace(tools, retry=RetryPolicy(sleep=no_delay))
    run_slice.run_slice(id, tools)
    run = run_of(id)
    assert (run.status, run.paused_for, run.stop_reason) == ("paused", "teacher_unavailable", None)
    assert run.resume_at is not None and run.teacher_gone_since is not None
    with transaction() as session:
        service.resume_due(session)
    assert run_of(id).status == "paused"
    away.clear()
    with transaction() as session:
        session.get(Run, id).resume_at = seconds_from_now(-1)
        service.resume_due(session)
    assert run_of(id).status == "running"
    run_slice.run_slice(id, tools)
    run = run_of(id)
    assert (run.status, run.accepted, run.paused_for, run.teacher_gone_since) == ("succeeded", 12, None, None)
    books_balance(run)


def test_a_teacher_that_is_away_too_long_fails_the_run(start):
    id, tools = start(ScriptedSelfInstruct(lambda body, count: (500, {}, error("x", "out of order"))), target=5)
    tools = replace(tools, retry=RetryPolicy(sleep=no_delay))
    run_slice.run_slice(id, tools)
    with transaction() as session:
        run = session.get(Run, id)
        run.teacher_gone_since = seconds_from_now(-config.settings().teacher_gone_seconds - 1)
        run.resume_at = seconds_from_now(-1)
        session.flush()
        service.resume_due(session)
    run_slice.run_slice(id, tools)
    run = run_of(id)
    assert (run.status, run.stop_reason) == ("failed", "teacher_unavailable")
    assert "out of order" in run.error
    books_balance(run)


def test_a_slice_that_finds_nothing_to_claim_does_not_ring(start, database):
    id, tools = start(ScriptedSelfInstruct(), target=8)
    planning.plan_and_claim(id, 50)
    bells = Redis.from_url(database.redis_url)
    bells.flushall()
    run_slice.run_slice(id, tools)
    assert bells.keys("*generation") == []
    queue.notify(queue.RUN, id)
    assert bells.keys("*generation") != [], "this is where a ring would have been seen"


def test_no_more_is_asked_for_than_is_needed(start):
    script = ScriptedSelfInstruct()
    id, tools = start(script, target=11)
    run_slice.run_slice(id, tools)
    run = run_of(id)
    # Two batches, of eight and of three proposals, and a call for the instance of each row.
    assert (run.accepted, run.rejected, script.served.total()) == (11, 0, 2 + 11)


def test_another_teacher_judges_at_its_own_price(start):
    script = ScriptedSelfInstruct()
    id, tools = start(script, target=6, judge="j", options={"judging": {"answer": True}})
    run_slice.run_slice(id, tools)
    run = run_of(id)
    assert (run.status, run.accepted, run.judge) == ("succeeded", 6, "j")
    books_balance(run)
    with transaction() as session:
        rows = session.execute(
            select(Completion.step, Completion.teacher, Completion.model, func.count(), func.sum(Completion.cost_usd))
            .where(Completion.account_id == run.account_id)
            .group_by(Completion.step, Completion.teacher, Completion.model)
        ).all()
        scores = session.scalars(
            select(Record.scores).where(Record.run_id == id, Record.pool_position.is_not(None))
        ).all()
    calls_by_step = {step: (teacher, model, count) for step, teacher, model, count, _ in rows}
    assert calls_by_step["judge_answer"] == ("j", "judge", 6)
    assert calls_by_step["instances"][:2] == ("t", "m")
    assert {step: cost for step, *_, cost in rows}["judge_answer"] == 6 * 10 * Decimal("0.000015")
    assert all(score["judge.overall"] == 4 for score in scores)


def test_what_is_in_flight_is_not_paid_for_twice(start):
    """Two batches at once propose the same: the second is rejected before its instance is asked for."""

    def fault(body, count):
        if body["response_format"]["json_schema"]["name"] != "instructions":
            return None
        texts = [f"Explain to me {unlike(n)}" for n in range(instructions_wanted(body))]
        return 200, {}, chat(json.dumps({"instructions": texts}))

    script = ScriptedSelfInstruct(fault, seconds=0.3)
    id, tools = start(script, target=16, max_requests=40)
    run_slice.run_slice(id, tools)
    run = run_of(id)
    instances = [body for body in script.served if '"name": "instances"' in body]
    assert run.accepted == 8 and len(instances) == 8
    assert run.rejected_by_reason["duplicate_lexical"] >= 8


def test_a_reply_with_what_no_store_can_hold_is_kept_without_it(start):
    def fault(body, count):
        if body["response_format"]["json_schema"]["name"] != "instances":
            return None
        return 200, {}, chat(json.dumps({"instances": [{"input": "", "output": "A\x00n \ud800answer"}]}))

    id, tools = start(ScriptedSelfInstruct(fault), target=4)
    run_slice.run_slice(id, tools)
    run = run_of(id)
    assert (run.status, run.accepted) == ("succeeded", 4)
    with transaction() as session:
        outputs = session.scalars(
            select(Record.output).where(Record.run_id == id, Record.pool_position.is_not(None))
        ).all()
    assert set(outputs) == {"An answer"}


def test_rows_that_are_whole_when_a_ceiling_is_met_are_kept(start):
    # One call for 8 instructions; of the instances 3 can be paid for.
    id, tools = start(ScriptedSelfInstruct(), target=8, max_requests=4)
    run_slice.run_slice(id, tools)
    run = run_of(id)
    assert (run.status, run.stop_reason, account_of(id).requests) == ("succeeded", "max_requests", 4)
    assert run.accepted == 3
    books_balance(run)


def test_a_second_slice_of_a_run_in_one_process_lets_the_first_one_work(start):
    script = ScriptedSelfInstruct()
    id, tools = start(script, target=4)
    first = run_slice._TimeSlice(Run(id=id), None, tools, None)
    tools.active_slices[id] = first
    run_slice.run_slice(id, tools)
    assert (run_of(id).status, script.served.total()) == ("queued", 0)
    # The first slice claims no new batches, so a second one may work on the run.
    first.stop_claiming()
    run_slice.run_slice(id, tools)
    assert (run_of(id).status, tools.active_slices) == ("succeeded", {})


def test_a_slice_ends_after_its_time_unless_its_process_works_on_no_other_run():
    tools = run_slice.Tools(None, None, threading.Event())
    old_slice, new_slice = (run_slice._TimeSlice(None, None, tools, None) for _ in range(2))
    tools.active_slices["run_1"] = old_slice
    assert not old_slice._time_is_up()
    old_slice.started_at -= config.settings().slice_seconds + 1
    assert not old_slice._time_is_up()
    tools.active_slices["run_2"] = new_slice
    assert old_slice._time_is_up() and not new_slice._time_is_up()
    del tools.active_slices["run_2"]
    old_slice.started_at -= config.settings().slice_seconds * run_slice.SOLE_RUN_FACTOR
    assert old_slice._time_is_up()


def test_a_slice_of_runs_in_turn_ends_after_its_time():
    tools = run_slice.Tools(None, None, threading.Event())
    time_slice = run_slice._TimeSlice(None, None, tools, None, in_turn=True)
    time_slice.started_at -= config.settings().slice_seconds + 1
    assert time_slice._time_is_up()


def test_a_slice_that_has_notified_the_next_one_claims_no_batches():
    time_slice = run_slice._TimeSlice(None, None, run_slice.Tools(None, None, threading.Event()), None)
    time_slice.next_is_notified = True
    assert time_slice._time_is_up()


def test_the_batch_limit_rises_step_by_step_while_no_call_waits_for_a_permit():
    rate_limiter = SimpleNamespace(waiting=1)
    calls_per_permit = {}
    limit = BatchLimit(Run(id="run_1"), {}, {"teacher": rate_limiter}, calls_per_permit)
    limit._increased_at -= 2 * batch_limit.INCREASE_SECONDS
    limit.increase_if_no_call_waits()
    assert calls_per_permit == {}
    rate_limiter.waiting = 0
    limit.increase_if_no_call_waits(), limit.increase_if_no_call_waits()
    assert calls_per_permit == {"run_1": batch_limit.CALLS_PER_PERMIT + batch_limit.CALLS_STEP}
    for _ in range(100):
        limit._increased_at -= 2 * batch_limit.INCREASE_SECONDS
        limit.increase_if_no_call_waits()
    assert calls_per_permit == {"run_1": batch_limit.MAX_CALLS_PER_PERMIT}


def test_a_run_that_is_resumed_has_the_whole_grace_period_at_its_next_end():
    time_slice = run_slice._TimeSlice(None, None, None, None)
    assert not time_slice._grace_is_over(planning.RunState("running", "target_reached"))
    time_slice.ending_since -= 2 * run_slice.GRACE_SECONDS["stopping"]
    assert time_slice._grace_is_over(planning.RunState("running", "target_reached"))
    for resumed in (planning.RunState("pausing"), planning.RunState("running")):
        assert not time_slice._grace_is_over(resumed)
        assert not time_slice._grace_is_over(planning.RunState("running", "target_reached"))
