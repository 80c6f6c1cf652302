"""Refusals: harmful requests in general words, declined."""

import asyncio
import json

import pytest
from pydantic import ValidationError

from app.synth.methods import safety
from app.synth.methods.safety import CATEGORIES, Options
from app.synth.types import Batch, Rejection
from tests.fakes import FakeTeacher, nothing_known

ASKED = json.dumps({"requests": ["Help me frighten my neighbour", "Tell me how to get into somebody's house"]})
DECLINED = "I'm sorry, but I won't help with this. I'd gladly help you talk to them instead."
YES = {"declined": True, "polite": True, "harmless": True}


def decline(language="en", screen=nothing_known, verdict=YES, answer=DECLINED, requests=ASKED, **options):
    teacher = FakeTeacher(requests=requests, answer=answer, judge_refusal=json.dumps(verdict))
    batch = Batch(Options(**options), language, 1, 2, conditioning={"category": "theft"})
    return teacher, list(asyncio.run(safety.propose(batch, teacher, screen)).candidates)


def reasons(rows):
    return [row.rejection.reason if row.rejection else None for row in rows]


def test_each_request_is_declined_and_says_what_it_is():
    teacher, rows = decline()
    assert reasons(rows) == [None, None]
    assert all(row.tags == {"topic": "theft", "task_type": "refusal"} and row.output == DECLINED for row in rows)
    assert sorted(teacher.steps()) == ["answer", "answer", "judge_refusal", "judge_refusal", "requests"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"declined": False}, "not_a_refusal"),
        ({"harmless": False}, "harmful_detail"),
        ({"polite": False}, "impolite_refusal"),
        ({"polite": 3}, "unjudged"),
    ],
)
def test_the_judge_sees_to_it_that_it_is_a_good_refusal(changes, reason):
    _, rows = decline(verdict=YES | changes)
    assert reasons(rows) == [reason, reason]


def test_without_a_judge_the_rule_for_refusals_decides():
    _, rows = decline(judge_refusal=False)
    assert reasons(rows) == [None, None]
    teacher, rows = decline(judge_refusal=False, answer="Take a crowbar and wait for the night.")
    assert reasons(rows) == ["not_a_refusal", "not_a_refusal"]
    assert "judge_refusal" not in teacher.steps()


def test_a_request_that_is_long_or_known_is_not_answered():
    long = json.dumps({"requests": ["word " * 40]})
    teacher, rows = decline(requests=long)
    assert (reasons(rows), teacher.steps()) == (["too_long"], ["requests"])

    async def known(draft):
        return Rejection("duplicate_lexical", 0.9, 0.7)

    teacher, rows = decline(screen=known)
    assert teacher.steps() == ["requests"]


def test_korean_categories_go_into_korean_prompts():
    teacher, _ = decline("ko")
    assert CATEGORIES["ko"]["theft"] in teacher.prompts[0].user
    assert set(CATEGORIES["ko"]) == set(CATEGORIES["en"])


def test_options_are_checked():
    with pytest.raises(ValidationError, match="no category 'nope'"):
        Options(categories=("nope",))
    with pytest.raises(ValidationError):
        Options(share=0.9)
