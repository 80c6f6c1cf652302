"""What a judge is asked, in which order, and what its verdicts do."""

import asyncio
import json

import pytest

from app.synth.quality.judging import apply_rules_and_scores, compare, finish, judge_answer, judge_question
from app.synth.quality.options import ASPECTS, MethodOptions
from app.synth.types import Batch, Candidate, Reply
from tests.fakes import FakeTeacher

ROW = Candidate("Name a river", "", "The Rhine is a river of Europe.")
GOOD = {"rationale": "Right.", **dict.fromkeys(ASPECTS, 4), "difficulty": 2, "topic": "rivers"}


def batch(language="en", **judging) -> Batch:
    return Batch(MethodOptions(rules="none", judging=judging), language, 1)


def judged(step, reply, row=ROW, **judging) -> Candidate:
    teacher = FakeTeacher(**{step.__name__: reply if isinstance(reply, Reply) else json.dumps(reply)})
    return asyncio.run(step(batch(**judging), row, "0", teacher))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"clarity": 2}, "unclear_question"),
        ({"answerable": False}, "unanswerable_question"),
        ({"harmless": False}, "harmful_question"),
        ({"clarity": 9}, "unjudged"),
        ({"harmless": "yes"}, "unjudged"),
    ],
)
def test_a_question_is_judged_before_its_answer(changes, reason):
    verdict = {"clarity": 4, "answerable": True, "harmless": True, "difficulty": 3, "topic": "  rivers "}
    row = judged(judge_question, verdict | changes)
    assert (row.rejection.reason if row.rejection else None) == reason
    if reason != "unjudged":
        assert row.scores["judge.difficulty"] == 3 and row.tags["topic"] == "rivers"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"correctness": 1}, "low_correctness"),
        (dict.fromkeys(ASPECTS, 3), "low_judge_score"),
        ({"clarity": None}, "unjudged"),
    ],
)
def test_an_answer_is_judged_on_the_rubric(changes, reason):
    row = judged(judge_answer, GOOD | changes)
    assert (row.rejection.reason if row.rejection else None) == reason
    if reason is None:
        assert row.scores["judge.overall"] == 4
        assert row.tags["rationale"] == "Right."


def test_only_the_wanted_aspects_are_asked_for():
    teacher = FakeTeacher(judge_answer=json.dumps({"correctness": 5, "difficulty": 1}))
    row = asyncio.run(judge_answer(batch(aspects=["correctness"]), ROW, "0", teacher))
    assert list(teacher.prompts[0].schema["properties"]) == ["rationale", "correctness", "difficulty", "topic"]
    assert row.rejection is None and row.scores["judge.overall"] == 5


@pytest.mark.parametrize("reply", [Reply("", refusal="no"), Reply('{"rationale": "it', "length"), Reply("")])
def test_a_judge_that_says_nothing_leaves_the_row_unjudged(reply):
    assert judged(judge_answer, reply).rejection.reason == "unjudged"


def test_the_judge_is_asked_only_when_it_is_wanted_and_the_rules_let_the_row_through():
    teacher = FakeTeacher(judge_answer=json.dumps(GOOD))
    refused = Candidate("Name a river", "", "I'm sorry, but I can't help with that.")
    rows = [asyncio.run(finish(batch(answer=True), row, "0", teacher)) for row in (ROW, refused)]
    assert [row.rejection.reason if row.rejection else None for row in rows] == [None, "low_no_refusal"]
    assert teacher.steps() == ["judge_answer"]
    asyncio.run(finish(batch(), ROW, "0", teacher))
    assert teacher.steps() == ["judge_answer"]


def test_every_rule_score_is_stored():
    row = apply_rules_and_scores(ROW, batch())
    assert {name for name in row.scores} == {
        *("rule.length_fit", "rule.format_consistency", "rule.relevance", "rule.no_refusal", "rule.no_boilerplate"),
        *("rule.no_repetition", "rule.language_match", "rule.safe_words"),
    }


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [(("A", "B"), 1), (("B", "A"), -1), (("A", "A"), 0), (("B", "B"), 0), (("tie", "tie"), 0), (("A", "tie"), 0)],
)
def test_a_pair_is_compared_in_both_orders(verdicts, outcome):
    said = iter(verdicts)
    teacher = FakeTeacher(judge_pair=lambda prompt: json.dumps({"rationale": "", "better": next(said)}))
    other = Candidate("Name a river", "", "Rome.")
    verdict, row = asyncio.run(compare(batch(), ROW, other, "0", teacher))
    assert verdict == outcome and len(row.completions) == 2
    first, second = (prompt.user for prompt in teacher.prompts)
    assert first.index("Rhine") < first.index("Rome") and second.index("Rome") < second.index("Rhine")
