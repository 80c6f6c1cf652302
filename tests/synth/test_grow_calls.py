"""What a growth pays for: ceilings that hold, failures that are tried again, replies that are never bought twice."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from decimal import Decimal

import pytest

from app import synth
from app.synth.notebook.call_account import CallAccount, CeilingReached, Ceilings
from app.synth.notebook.function_caller import MAX_FAILED_IN_A_ROW
from app.synth.notebook.reply_ledger import ReplyLedger
from app.synth.prices import Prices
from app.synth.teacher_errors import MAX_TRIES, MAX_UNCLASSIFIED_TRIES
from app.synth.types import Prompt, Reply, Usage
from tests.fakes import unlike

# So many that no two batches show the same ones: their requests differ, and so do the replies.
SEEDS = [
    synth.Demonstration(f"s{n}", f"Name {unlike(n)}", (synth.Instance("", "apple, pear, plum"),), False)
    for n in range(40)
]


def compose(messages: list[dict]) -> str:
    """A reply that follows from the messages alone."""
    request_text = json.dumps(messages)
    if "<demonstrations>" in messages[-1]["content"]:
        return json.dumps({"instructions": [f"Explain to me {unlike(request_text, n)}" for n in range(8)]})
    if "decide" in messages[-1]["content"]:
        return '{"is_classification": false}'
    return json.dumps({"instances": [{"input": "", "output": f"An answer about {unlike(request_text)}"}]})


class CountingTeacher:
    """Composes replies; `raises(number)` says what the call of this number raises, if anything."""

    def __init__(self, raises=lambda number: None):
        self.requests: list[str] = []
        self._raises = raises

    def __call__(self, messages: list[dict]) -> str:
        self.requests.append(json.dumps(messages))
        error = self._raises(len(self.requests))
        if error is not None:
            raise error
        return compose(messages)


class Clock:
    """Sleeps in no time, and keeps for how long."""

    def __init__(self):
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class HttpError(Exception):
    """As clients of several vendors raise it."""

    def __init__(self, status_code: int, code: str = "", headers: dict | None = None):
        super().__init__(f"status {status_code}")
        self.status_code, self.code = status_code, code
        self.response = type("Response", (), {"headers": headers or {}, "status_code": status_code})()


def grow(teacher, target: int = 100, **given) -> synth.Growth:
    return synth.grow("self_instruct", SEEDS, teacher, target, **given)


@pytest.mark.parametrize("parallel", [1, 4])
@pytest.mark.parametrize("ceiling", [1, 5, 40, 68])
def test_not_one_call_more_than_max_calls(ceiling, parallel):
    teacher = CountingTeacher()
    grown = grow(teacher, max_calls=ceiling, parallel=parallel)
    assert len(teacher.requests) == grown.calls == ceiling
    assert grown.stop_reason == "max_calls" and "max_calls" in grown.message


def test_what_is_whole_when_a_ceiling_is_reached_is_returned():
    grown = grow(CountingTeacher(), max_calls=40)
    assert len(grown.accepted) >= 10 and all(row.output for row in grown.accepted)


def with_usage(messages: list[dict]) -> Reply:
    return Reply(compose(messages), usage=Usage(100, 0, 20))


def test_tokens_and_dollars_stay_under_their_ceilings_whatever_is_in_flight():
    async def teacher(messages):
        await asyncio.sleep(0)
        return with_usage(messages)

    grown = grow(teacher, max_tokens=12_000)
    assert grown.stop_reason == "max_tokens" and grown.accepted
    assert grown.tokens == 120 * grown.calls <= 12_000
    prices = Prices.per_million("0.40", "1.60")
    grown = grow(teacher, max_usd="0.006", prices=prices)
    assert grown.stop_reason == "max_usd" and grown.accepted
    assert grown.usd == grown.calls * Decimal("0.000072") <= Decimal("0.006")


def test_a_text_without_usage_is_counted_by_its_bytes():
    grown = grow(compose, target=3)
    assert grown.tokens > 100 * grown.calls


def test_dollars_without_prices_are_refused():
    with pytest.raises(ValueError, match="prices"):
        grow(compose, max_usd=1)


def prompt(max_tokens: int = 10) -> Prompt:
    return Prompt("s", "p", "", "", None, 0.0, max_tokens, "t")


@pytest.mark.parametrize("max_usd", ["abc", "nan", "inf", -1, float("nan")])
def test_a_ceiling_that_is_no_number_of_dollars_is_refused(max_usd):
    with pytest.raises(ValueError, match="max_usd is a number of dollars"):
        grow(compose, max_usd=max_usd, prices=Prices.per_million(1, 1))


def test_prices_of_the_judge_without_the_teachers_are_refused():
    with pytest.raises(ValueError, match="need prices"):
        grow(compose, judge_prices=Prices.per_million(1, 1))


def test_a_call_waits_for_those_in_flight_and_goes_when_they_cost_less():
    async def run():
        account = CallAccount(Ceilings(max_tokens=250), {})
        first = await account.reserve(prompt())
        assert first.tokens > 70
        calls = [asyncio.ensure_future(account.reserve(prompt())) for _ in range(4)]
        await asyncio.sleep(0)
        going = [call for call in calls if call.done()]
        assert len(going) < 4
        account.post(first, Usage(1, 0, 1))
        for call in going:
            account.post(call.result(), Usage(1, 0, 1))
        await asyncio.sleep(0)
        assert all(call.done() for call in calls) and account.calls == 5

    asyncio.run(run())


def test_a_call_that_fits_under_no_circumstances_is_refused_at_once():
    async def run():
        account = CallAccount(Ceilings(max_tokens=50), {})
        with pytest.raises(CeilingReached, match="max_tokens=50"):
            await account.reserve(prompt())
        assert account.calls == 0

    asyncio.run(run())


@pytest.mark.parametrize("error", [ConnectionError("reset"), TimeoutError(), HttpError(500), RuntimeError("odd")])
def test_a_call_that_raises_once_costs_no_row(error):
    clock, seen = Clock(), []
    teacher = CountingTeacher(lambda number: error if number == 60 else None)
    grown = grow(teacher, sleep=clock.sleep, progress=lambda growth: seen.append(len(growth.accepted)))
    assert (len(grown.accepted), grown.stop_reason) == (100, "target_reached")
    assert len(clock.slept) == 1


def test_the_servers_wish_is_waited_for():
    clock = Clock()
    error = HttpError(429, "rate_limit_exceeded", {"Retry-After": "7"})
    grow(CountingTeacher(lambda number: error if number == 2 else None), target=3, sleep=clock.sleep)
    assert 7 <= clock.slept[0] < 8.5


@pytest.mark.parametrize(
    ("error", "tries"), [(ConnectionError("no model here"), MAX_TRIES), (RuntimeError("odd"), MAX_UNCLASSIFIED_TRIES)]
)
def test_a_call_that_never_succeeds_costs_one_proposal_and_the_others_go_on(error, tries):
    failing: list[str] = []

    async def teacher(messages):
        request_text = json.dumps(messages)
        if "instances" in request_text and (not failing or request_text in failing):
            failing.append(request_text)
            raise error
        return compose(messages)

    grown = grow(teacher, target=20, sleep=Clock().sleep)
    assert (len(grown.accepted), grown.stop_reason) == (20, "target_reached")
    assert len(failing) == tries and set(grown.reasons()) == {"call_failed"}
    (row,) = grown.rejected
    assert str(error) in row.rejection.value and row.instruction


@pytest.mark.parametrize(
    ("error", "stop_reason"),
    [
        (HttpError(401), "credentials_refused"),
        (HttpError(429, "insufficient_quota"), "quota_exhausted"),
        (HttpError(404, "model_not_found"), "model_unknown"),
    ],
)
def test_what_no_other_call_would_escape_ends_the_growth_with_its_rows(error, stop_reason):
    grown = grow(CountingTeacher(lambda number: error if number > 100 else None), parallel=1)
    assert grown.stop_reason == stop_reason and "status" in grown.message
    assert grown.accepted and grown.calls < 120


@pytest.mark.parametrize(
    ("error", "stop_reason"), [(ConnectionError("gone"), "teacher_unavailable"), (HttpError(400), "request_refused")]
)
def test_too_many_failures_in_a_row_end_the_growth(error, stop_reason):
    teacher = CountingTeacher(lambda number: error if number > 60 else None)
    grown = grow(teacher, sleep=Clock().sleep, parallel=1)
    assert grown.stop_reason == stop_reason and grown.accepted
    reason = "call_failed" if stop_reason == "teacher_unavailable" else "request_refused"
    assert grown.reasons() == {reason: MAX_FAILED_IN_A_ROW - 1}


def test_a_fault_that_is_no_call_is_told_and_the_rows_are_returned():
    def progress(growth):
        if len(growth.accepted) >= 8:
            raise OSError("the disk is full")

    grown = grow(compose, progress=progress)
    assert (grown.stop_reason, grown.message) == ("failed", "OSError: the disk is full")
    assert isinstance(grown.error, OSError) and len(grown.accepted) >= 8


def test_a_reply_of_another_type_is_told():
    grown = grow(lambda messages: {"choices": []}, sleep=Clock().sleep)
    assert grown.stop_reason == "teacher_unavailable" and "synth.Reply" in grown.message


def test_a_reply_of_another_type_gives_back_what_it_reserved():
    # A second call waits for the reservation of the first: without it the growth would never end.
    grown = grow(lambda messages: 5, sleep=Clock().sleep, max_tokens=3000)
    assert grown.stop_reason in ("max_tokens", "teacher_unavailable") and grown.tokens <= 3000


@pytest.mark.parametrize("inside_a_loop", [False, True])
@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError()], ids=["exit", "cancelled"])
def test_a_teacher_that_ends_itself_costs_no_row_and_no_growth(error, inside_a_loop):
    teacher = CountingTeacher(lambda number: error if number == 60 else None)

    async def cell():
        return grow(teacher, sleep=Clock().sleep)

    grown = asyncio.run(cell()) if inside_a_loop else grow(teacher, sleep=Clock().sleep)
    assert (grown.stop_reason, len(grown.accepted)) == ("target_reached", 100)


@pytest.mark.parametrize("inside_a_loop", [False, True])
def test_an_interrupt_returns_the_rows(inside_a_loop):
    teacher = CountingTeacher(lambda number: KeyboardInterrupt() if number == 60 else None)

    async def cell():
        return grow(teacher, parallel=1)

    grown = asyncio.run(cell()) if inside_a_loop else grow(teacher, parallel=1)
    assert grown.stop_reason == "interrupted" and grown.accepted


def texts(grown: synth.Growth) -> list[tuple]:
    rows = [*grown.accepted, *grown.rejected]
    return [(row.instruction, row.output, row.parents, row.rejection) for row in rows]


def test_the_same_rows_come_out_in_whatever_order_the_replies_arrive():
    def slow(seed: int):
        rng = random.Random(seed)

        async def teacher(messages):
            for _ in range(rng.randrange(30)):
                await asyncio.sleep(0)
            return compose(messages)

        return teacher

    grown = [grow(slow(seed), target=60) for seed in range(4)]
    assert len(grown[0].accepted) == 60
    assert all(texts(item) == texts(grown[0]) for item in grown)


def test_a_second_growth_pays_for_nothing(tmp_path):
    first, second = CountingTeacher(), CountingTeacher()
    one = grow(first, target=20, ledger=tmp_path / "replies.jsonl")
    two = grow(second, target=20, ledger=tmp_path / "replies.jsonl")
    assert second.requests == [] and two.replayed == len(first.requests) == two.calls
    assert texts(two) == texts(one) and two.tokens == one.tokens > 0


@pytest.mark.parametrize("changed", [{"seed": 1}, {"options": {"temperature": 0.1}}, {"language": "ko"}])
def test_another_request_or_seed_is_another_call(tmp_path, changed):
    second = CountingTeacher()
    grow(CountingTeacher(), target=8, ledger=tmp_path / "replies.jsonl")
    grow(second, target=8, ledger=tmp_path / "replies.jsonl", **changed)
    assert second.requests


def test_what_the_ledger_holds_counts_toward_the_ceilings(tmp_path):
    path = tmp_path / "replies.jsonl"
    one = grow(CountingTeacher(), max_calls=30, ledger=path)
    again, more = CountingTeacher(), CountingTeacher()
    two = grow(again, max_calls=30, ledger=path)
    assert again.requests == [] and two.stop_reason == "max_calls" and texts(two) == texts(one)
    three = grow(more, max_calls=35, ledger=path)
    assert len(more.requests) == 5 and three.calls == 35


def test_after_a_growth_was_cut_off_exactly_the_missing_calls_are_made(tmp_path):
    whole, cut, rest = (CountingTeacher(raises) for raises in (ok, broken_at(35), ok))
    expected = grow(whole, target=40, parallel=2)
    path = tmp_path / "replies.jsonl"
    first = grow(cut, target=40, parallel=2, ledger=path)
    assert first.stop_reason == "credentials_refused" and len(first.accepted) < 40
    second = grow(rest, target=40, parallel=2, ledger=path)
    assert texts(second) == texts(expected)
    assert second.replayed == 34 and Counter(rest.requests) == Counter(whole.requests) - Counter(cut.requests[:34])
    assert len(path.read_text().splitlines()) == len(whole.requests)


def ok(number: int) -> None:
    return None


def broken_at(first: int):
    return lambda number: HttpError(401) if number >= first else None


KILLED = """
import os, signal, sys
from tests.synth.test_grow_calls import CountingTeacher, grow
def die(number):
    if number == 40:
        os.kill(os.getpid(), signal.SIGKILL)
grow(CountingTeacher(die), target=40, parallel=2, ledger=sys.argv[1])
"""


def test_after_a_kill_exactly_the_missing_calls_are_made_and_a_torn_line_is_cut_off(tmp_path):
    path = tmp_path / "replies.jsonl"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], env=os.environ, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    kept = path.read_text().splitlines()
    assert 20 < len(kept) < 40
    with path.open("a") as file:
        file.write(kept[0][:50])
    whole, rest = CountingTeacher(), CountingTeacher()
    expected = grow(whole, target=40, parallel=2)
    second = grow(rest, target=40, parallel=2, ledger=path)
    assert texts(second) == texts(expected)
    assert len(rest.requests) == len(whole.requests) - len(kept)
    assert len(path.read_text().splitlines()) == len(whole.requests)


def test_a_try_that_may_be_billed_is_kept_at_its_most(tmp_path):
    path = tmp_path / "replies.jsonl"
    teacher = CountingTeacher(lambda number: TimeoutError() if number == 1 else None)
    one = grow(teacher, target=4, ledger=path, sleep=Clock().sleep)
    lost = [entry for entry in ReplyLedger(path).entries if entry.reply is None]
    assert len(lost) == 1 and lost[0].tokens > 1000
    two = grow(CountingTeacher(), target=4, ledger=path)
    assert (two.tokens, two.calls) == (one.tokens, one.calls)


def test_a_file_that_is_no_ledger_is_left_alone(tmp_path):
    path = tmp_path / "notes.jsonl"
    path.write_text('{"instruction": "x"}\n')
    with pytest.raises(ValueError, match=r"notes\.jsonl, line 1: no entry"):
        grow(compose, ledger=path)
    assert path.read_text() == '{"instruction": "x"}\n'


@pytest.mark.parametrize(
    "content",
    [
        '{"precious": 1}',
        "notes without a line break",
        '{"key": "k", "reply": null, "tokens": 1, "usd": "abc"}\n',
        '{"key": "k", "reply": null, "tokens": 1, "usd": "NaN"}\n',
        '{"key": "k", "reply": null, "tokens": "x", "usd": "0"}\n',
        '{"key": "k", "reply": {"text": 5, "usage": {}}, "tokens": 1, "usd": "0"}\n',
    ],
)
def test_a_file_with_anything_but_entries_is_refused_and_stays_as_it_is(tmp_path, content):
    path = tmp_path / "notes.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"notes\.json, line 1: no entry"):
        grow(compose, ledger=path)
    assert path.read_text() == content


@pytest.mark.parametrize("function_is_async", [False, True])
def test_a_teacher_that_raises_stop_iteration_costs_a_proposal_and_does_not_hang(function_is_async):
    def plain(messages):
        return next(iter(()))

    async def asynchronous(messages):
        return plain(messages)

    grown = synth.grow(
        "self_instruct", SEEDS, asynchronous if function_is_async else plain, 3, sleep=Clock().sleep, max_calls=30
    )
    assert grown.stop_reason == "teacher_unavailable" and "StopIteration" in grown.message
