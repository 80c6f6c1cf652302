"""Judgements in this process against a scripted judge over HTTP: verdicts, ends, and that nothing is paid twice."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest
from redis import Redis
from sqlalchemy import func, select

from app import config
from app.access import service as access
from app.access.service import Caller
from app.calls.caller import RetryPolicy
from app.datasets import service as datasets
from app.datasets.schemas import DatasetCreate
from app.errors import AppError
from app.jobs import outcomes, runner, steering
from app.jobs.kinds import Explanation
from app.jobs.leases import seconds_from_now
from app.jobs.retry import Outcome
from app.judgements import service, store
from app.judgements.judging import Tools, judge
from app.judgements.kind import KIND
from app.judgements.report import build_report
from app.judgements.schemas import JudgementCreate, JudgementView, RecordFilter
from app.persistence.db import transaction
from app.tables.accounts import Account, Completion
from app.tables.datasets import Decision, Record
from app.tables.judgements import JudgedRow, Judgement
from tests.fakes import ScriptedServer, chat, error
from tests.waiting import until
from workers.generation import teacher

REFUSAL = "I'm sorry, but I cannot help with that."
TASKS = [
    {"instruction": f"Explain part {n} of a clock", "instances": [{"output": f"Part {n} ticks." if n else REFUSAL}]}
    for n in range(12)
]


async def no_delay(seconds: float) -> None:
    pass


class Judge:
    """Gives every row `score` on all aspects; `fault(body, count)` may answer first. Counts each request body."""

    def __init__(self, score: Callable[[str], int] = lambda prompt: 4, fault=lambda body, count: None):
        self.score, self.fault = score, fault
        self.served: Counter[str] = Counter()
        self.guard = threading.Lock()

    def __call__(self, body: dict):
        key = json.dumps(body, sort_keys=True)
        with self.guard:
            count = self.served[key]
            self.served[key] += 1
        reply = self.fault(body, count)
        if reply is not None:
            return reply
        names = body["response_format"]["json_schema"]["schema"]["properties"]
        words = {"rationale": "It says so.", "topic": "clocks"}
        score = self.score(body["messages"][-1]["content"])
        flags = {"answerable": True, "harmless": True}
        verdict = {name: words.get(name, flags.get(name, score)) for name in names}
        return 200, {}, chat(json.dumps(verdict))


@dataclass
class Order:
    """A judgement that was ordered, and what a worker brings to it."""

    id: str
    caller: Caller
    tools: Tools

    def work(self, shutdown: threading.Event | None = None) -> None:
        runner.work(KIND, self.id, partial(judge, tools=self.tools), shutdown=shutdown)

    def view(self) -> JudgementView:
        with transaction() as session:
            return service.views(session, [session.get(Judgement, self.id)])[self.id]

    def act(self, action: Callable) -> Judgement:
        with transaction() as session:
            return action(session, self.caller, self.id)


@pytest.fixture
def order(database, tmp_path, monkeypatch) -> Iterator[Callable[..., Order]]:
    servers = []

    def begin(script, in_flight: int = 8, **body) -> Order:
        server = ScriptedServer(script).__enter__()
        servers.append(server)
        path = tmp_path / "seedbed.toml"
        path.write_text(
            f'[[teachers]]\nname = "j"\nbase_url = "{server.url}"\nmodel = "m"\nin_flight = {in_flight}\n'
            'prompt_price = "0.15"\ncompletion_price = "0.60"\ntimeout_seconds = 60\n'
        )
        monkeypatch.setenv("SEEDBED_CONFIG", str(path))
        config.settings.cache_clear(), config.file_config.cache_clear()
        with transaction() as session:
            caller = Caller(access.ensure_project(session, "judgements").id, "k")
            seeds = DatasetCreate(name=f"set {time.time_ns()}", seeds={"tasks": TASKS})
            dataset = datasets.create(session, caller, seeds)
            row = service.create(session, caller, JudgementCreate(**{"dataset_id": dataset.id, "teacher": "j"} | body))
        return Order(row.id, caller, Tools(teacher, RetryPolicy(sleep=no_delay)))

    yield begin
    for server in servers:
        server.__exit__()
    monkeypatch.undo()
    config.settings.cache_clear(), config.file_config.cache_clear()


def records_of(order: Order) -> list[Record]:
    with transaction() as session:
        dataset_id = session.get(Judgement, order.id).dataset_id
        return list(session.scalars(select(Record).where(Record.dataset_id == dataset_id).order_by(Record.id)))


def check_books(order: Order) -> Account:
    """Counters equal rows; cost equals completions; nothing stays reserved."""
    with transaction() as session:
        row = session.get(Judgement, order.id)
        account = session.get(Account, row.account_id)
        paid = select(func.sum(Completion.cost_usd)).where(Completion.account_id == account.id)
        cost = session.scalar(paid) or 0
        outcomes = dict(
            session.execute(
                select(JudgedRow.outcome, func.count())
                .where(JudgedRow.judgement_id == row.id)
                .group_by(JudgedRow.outcome)
            ).all()
        )
    assert (account.cost_usd, account.reserved_requests, account.reserved_usd) == (cost, 0, 0)
    assert row.outcomes == outcomes and row.done_rows == sum(outcomes.values())
    return account


def test_each_record_gets_scores_and_tags_for_one_call(order):
    script = Judge()
    judgement = order(script)
    judgement.work()
    view = judgement.view()
    assert (view.status, view.stop_reason, view.rows, view.done_rows) == ("succeeded", "completed", 12, 12)
    assert view.outcomes == {"passed": 12} and view.rejected == 0
    assert script.served.total() == 12 == view.usage.requests
    for record in records_of(judgement):
        assert (
            record.scores["judge.overall"] == record.scores["judge.clarity"] == record.scores["judge.difficulty"] == 4
        )
        assert record.scores["rule.no_repetition"] == 1
        assert (record.tags["topic"], record.tags["rationale"]) == ("clocks", "It says so.")
        assert record.status == "accepted"
    assert check_books(judgement).state == "stopped"


def test_both_stages_and_what_fails_at_one_is_not_paid_for_at_the_next(order):
    script = Judge(lambda prompt: 1 if "part 3 " in prompt else 4)
    judgement = order(script, options={"question": True, "minimum_scores": {"length_fit": 0.0}})
    judgement.work()
    view = judgement.view()
    assert view.outcomes == {"passed": 11, "unclear_question": 1}
    assert view.usage.requests == 12 + 11
    scores = {record.instruction: record.scores for record in records_of(judgement)}
    assert scores["Explain part 3 of a clock"]["judge.question_clarity"] == 1
    assert "judge.overall" not in scores["Explain part 3 of a clock"]
    assert scores["Explain part 4 of a clock"]["judge.overall"] == 4


def test_a_row_under_a_rule_score_costs_no_call(order):
    judgement = order(script := Judge(), options={"minimum_scores": {"no_refusal": 0.5}})
    judgement.work()
    assert judgement.view().outcomes == {"passed": 11, "low_no_refusal": 1}
    assert script.served.total() == 11
    scores = {record.instruction: record.scores for record in records_of(judgement)}
    assert scores["Explain part 0 of a clock"]["rule.no_refusal"] == 0
    assert "judge.overall" not in scores["Explain part 0 of a clock"]


def test_rows_under_the_thresholds_are_rejected_only_where_it_was_ordered(order):
    def low(prompt):
        return 1 if "part 3 " in prompt or "part 7 " in prompt else 4

    kept = order(Judge(low))
    kept.work()
    assert kept.view().outcomes == {"passed": 10, "low_instruction_following": 2}
    assert all(record.status == "accepted" for record in records_of(kept))
    judgement = order(Judge(low), reject=True)
    judgement.work()
    view = judgement.view()
    assert (view.rejected, view.outcomes["low_instruction_following"]) == (2, 2)
    rejected = [record for record in records_of(judgement) if record.status == "rejected"]
    assert {record.reason for record in rejected} == {"low_instruction_following"}
    assert rejected[0].detail == {"value": 1.0, "threshold": 2.0} and len(rejected) == 2
    with transaction() as session:
        decisions = session.scalars(select(Decision).where(Decision.replaced_by == judgement.id)).all()
    assert [decision.status for decision in decisions] == ["accepted", "accepted"]


def test_a_verdict_that_cannot_be_read_counts_as_unjudged_and_rejects_nothing(order):
    def fault(body, count):
        return (200, {}, chat("no verdict")) if "part 5 " in body["messages"][-1]["content"] else None

    judgement = order(Judge(fault=fault), reject=True)
    judgement.work()
    view = judgement.view()
    assert view.outcomes == {"passed": 11, "unjudged": 1} and view.rejected == 0
    check_books(judgement)


@pytest.mark.parametrize(
    ("ceiling", "done"),
    # An answer costs $0.0000045, and a call $0.0006 at its worst.
    [({"max_requests": 5}, 5), ({"max_tokens": 500}, 0), ({"max_usd": 0.0001}, 0)],
)
def test_a_ceiling_ends_it_and_the_verdicts_so_far_stay(order, ceiling, done):
    judgement = order(script := Judge(), in_flight=2, **ceiling)
    judgement.work()
    view = judgement.view()
    assert (view.status, view.stop_reason) == ("succeeded", next(iter(ceiling)))
    assert view.done_rows == script.served.total() == done
    check_books(judgement)


def test_a_worker_that_dies_is_followed_by_one_that_pays_for_nothing_again(order):
    class Dies(Exception):
        pass

    judgement = order(script := Judge(), in_flight=4)

    class DyingJob(runner.RunningJob):
        def check(self) -> None:
            super().check()
            if script.served.total() >= 8:
                raise Dies

    def attempt(job: runner.RunningJob) -> None:
        dying = DyingJob(job.kind, job.claim, job._beat, job._shutdown)
        try:
            judge(dying, judgement.tools)
        except Dies:
            raise KeyboardInterrupt from None

    with pytest.raises(KeyboardInterrupt):
        runner.work(KIND, judgement.id, attempt)
    assert judgement.view().status == "running"
    with transaction() as session:
        session.get(Judgement, judgement.id).lease_expires_at = seconds_from_now(-1)
    steering.recover_lost(KIND)
    judgement.work()
    view = judgement.view()
    assert (view.status, view.done_rows, view.outcomes) == ("succeeded", 12, {"passed": 12})
    assert len(script.served) == 12
    # A call that was reserved and not sent when the worker died counts as lost: nobody can tell the two apart.
    assert 12 <= script.served.total() <= 12 + view.usage.unknown_requests <= 12 + 4
    check_books(judgement)


def test_pause_keeps_what_is_in_flight_and_resume_goes_on(order):
    hold = threading.Event()

    def fault(body, count):
        if len(script.served) > 4:
            hold.wait(60)

    script = Judge(fault=fault)
    judgement = order(script, in_flight=4)
    working = threading.Thread(target=judgement.work)
    working.start()
    until(lambda: len(script.served) > 4)
    assert judgement.act(service.pause).status == "pausing"
    hold.set()
    working.join()
    view = judgement.view()
    assert (view.status, view.usage.in_flight, view.usage.unknown_requests) == ("paused", 0, 0)
    assert 4 < view.done_rows < 12
    served = script.served.total()
    judgement.work()
    assert script.served.total() == served, "a paused judgement is worked on by nobody"
    assert judgement.act(service.resume).status == "queued"
    judgement.work()
    assert (judgement.view().status, judgement.view().done_rows) == ("succeeded", 12)
    assert max(script.served.values()) == 1
    check_books(judgement)


def test_cancel_ends_it_wherever_it_is(order):
    queued = order(Judge())
    assert queued.act(service.cancel).status == "cancelled"
    paused = order(Judge())
    paused.act(service.pause)
    assert paused.act(service.cancel).status == "cancelled"
    hold = threading.Event()

    def fault(body, count):
        if len(script.served) > 4:
            hold.wait(60)

    script = Judge(fault=fault)
    running = order(script, in_flight=4)
    working = threading.Thread(target=running.work)
    working.start()
    until(lambda: len(script.served) > 4)
    assert running.act(service.cancel).status == "cancelling"
    working.join()
    hold.set()
    view = running.view()
    assert (view.status, view.stop_reason) == ("cancelled", "cancelled")
    assert view.done_rows >= 4 and view.usage.unknown_requests >= 1
    account = check_books(running)
    assert account.state == "stopped" and account.lost_requests == view.usage.unknown_requests
    with pytest.raises(AppError) as refusal:
        running.act(service.resume)
    assert refusal.value.status == 409


def test_it_waits_for_a_teacher_that_is_away_and_goes_on_by_itself(order):
    away = threading.Event()
    away.set()
    judgement = order(Judge(fault=lambda body, count: (500, {}, error("x", "out of order")) if away.is_set() else None))
    judgement.work()
    view = judgement.view()
    assert (view.status, view.paused_for, view.stop_reason) == ("paused", "teacher_unavailable", None)
    with transaction() as session:
        service.resume_due(session)
    assert judgement.view().status == "paused"
    away.clear()
    # The breaker is open there.
    Redis.from_url(config.redis_url()).flushall()
    with transaction() as session:
        session.get(Judgement, judgement.id).resume_at = seconds_from_now(-1)
        service.resume_due(session)
    assert judgement.view().status == "queued"
    judgement.work()
    view = judgement.view()
    assert (view.status, view.done_rows, view.paused_for) == ("succeeded", 12, None)


def test_a_teacher_that_is_away_too_long_fails_it(order):
    judgement = order(Judge(fault=lambda body, count: (500, {}, error("x", "out of order"))))
    judgement.work()
    with transaction() as session:
        row = session.get(Judgement, judgement.id)
        row.teacher_gone_since = seconds_from_now(-config.settings().teacher_gone_seconds - 1)
        row.resume_at = seconds_from_now(-1)
        session.flush()
        service.resume_due(session)
    judgement.work()
    view = judgement.view()
    assert (view.status, view.stop_reason) == ("failed", "teacher_unavailable")
    assert "away for too long" in view.error
    check_books(judgement)


def test_refused_credentials_fail_it_in_words(order):
    judgement = order(Judge(fault=lambda body, count: (401, {}, error("invalid_api_key", "wrong key"))))
    judgement.work()
    view = judgement.view()
    assert (view.status, view.stop_reason) == ("failed", "credentials_refused")
    assert "wrong key" in view.error
    check_books(judgement)


def test_verdicts_that_were_paid_for_before_the_credit_ran_out_are_kept(order):
    def fault(body, count):
        return (402, {}, error("insufficient_quota", "no credit")) if script.served.total() >= 5 else None

    script = Judge(fault=fault)
    judgement = order(script, in_flight=2)
    judgement.work()
    view = judgement.view()
    assert (view.status, view.stop_reason) == ("failed", "quota_exhausted")
    assert view.done_rows == view.usage.requests == 4


def test_a_worker_that_is_told_to_end_gives_it_back(order):
    shutdown = threading.Event()

    def fault(body, count):
        if len(script.served) > 4:
            shutdown.set()

    script = Judge(fault=fault)
    judgement = order(script, in_flight=2)
    judgement.work(shutdown)
    view = judgement.view()
    assert view.status == "queued" and 4 < view.done_rows < 12 and view.usage.unknown_requests == 0
    judgement.work()
    assert judgement.view().done_rows == 12 and max(script.served.values()) == 1


def test_a_judgement_whose_worker_was_lost_while_it_paused_is_paused(order):
    judgement = order(Judge())
    with transaction() as session:
        row = store.locked_judgement(session, judgement.id)
        row.move("running")
        row.move("pausing")
    with transaction() as session:
        service.pause_abandoned(session)
    assert judgement.view().status == "paused"


@pytest.mark.parametrize("outcome", [Outcome.WORKER_STOPPING, Outcome.FAULT])
def test_an_attempt_that_ends_while_it_is_pausing_leaves_it_paused(order, outcome):
    judgement = order(Judge())
    with transaction() as session:
        row = store.locked_judgement(session, judgement.id)
        row.move("running")
        row.move("pausing")
        row.attempt = 1
        outcomes.record_outcome(session, KIND, row, outcome, Explanation("judgement_failed", "A fault."))
    assert judgement.view().status == "paused"
    judgement.act(service.resume)
    judgement.work()
    assert judgement.view().done_rows == 12


def test_only_what_fits_the_filter_and_was_there_is_judged(order):
    judgement = order(script := Judge(), filter=RecordFilter(text="part 1"))
    with transaction() as session:
        row = session.get(Judgement, judgement.id)
        later = TASKS[0]["instruction"].replace("part 0", "part 1 and more")
        copy = session.scalars(select(Record).where(Record.dataset_id == row.dataset_id).limit(1)).one()
        names = [column.name for column in Record.__table__.columns if column.name != "embedding"]
        columns = {name: getattr(copy, name) for name in names}
        changed = {
            "id": f"rec_f{time.time_ns():031x}",
            "instruction": later,
            "pool_position": 1000,
            "content_hash": b"later",
        }
        session.add(Record(**columns | changed))
    judgement.work()
    # Parts 1, 10 and 11.
    assert (judgement.view().done_rows, script.served.total()) == (3, 3)


def test_the_report_has_outcomes_costs_and_the_spread_of_scores(order):
    judgement = order(Judge(lambda prompt: 5 if "part 2 " in prompt else 4))
    judgement.work()
    with transaction() as session:
        report = build_report(session, session.get(Judgement, judgement.id))
    assert (report.done_rows, report.outcomes, report.sampled_rows) == (12, {"passed": 12}, 12)
    assert [(step.name, step.calls) for step in report.economy.steps] == [("judge_answer", 12)]
    assert report.quality["scores"]["judge.overall"]["mean"] == pytest.approx(49 / 12, abs=0.01)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"teacher": "nobody"}, "/teacher"),
        ({"options": {"answer": False}}, "/options"),
        ({"options": {"aspects": ["taste"]}}, "/options/aspects/0"),
        ({"options": {"minimum_scores": {"nope": 1}}}, "/options/minimum_scores"),
        ({"filter": RecordFilter(text="no such words")}, "/filter"),
    ],
)
def test_what_cannot_be_judged_is_refused(order, change, pointer):
    with pytest.raises(AppError) as refusal:
        order(Judge(), **change)
    assert refusal.value.status == 422 and refusal.value.errors[0].pointer == pointer
