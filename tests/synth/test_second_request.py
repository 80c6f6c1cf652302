"""A reply that could not be read is asked for once more, if the options say so."""

import asyncio
import json

import pytest

from app.synth.methods.registry import METHODS
from app.synth.types import Batch, Reply
from tests.fakes import FakeTeacher, nothing_known

BROKEN, WHOLE = "I wrote two instructions.", json.dumps({"instructions": ["Explain tides to a child"]})


def propose(teacher: FakeTeacher, language: str = "en", **options) -> list:
    method = METHODS["self_instruct"]
    batch = Batch(method.options(**options), language, 7, 8)
    return list(asyncio.run(method.propose(batch, teacher, nothing_known)).candidates)


def instructions_of(teacher: FakeTeacher) -> list:
    return [prompt for prompt in teacher.prompts if prompt.step == "instructions"]


@pytest.mark.parametrize(("language", "request_text"), [("en", "could not be read"), ("ko", "읽을 수 없었습니다")])
def test_the_teacher_sees_its_reply_and_is_asked_for_the_form(language, request_text):
    replies = iter([BROKEN, WHOLE])
    teacher = FakeTeacher(instructions=lambda prompt: next(replies))
    (row,) = propose(teacher, language, ask_again=True)
    first, second = instructions_of(teacher)
    assert row.instruction == "Explain tides to a child" and row.completions[0] == "instructions-again"
    assert second.turns == (("user", first.user), ("assistant", BROKEN)) and request_text in second.user


def test_it_is_asked_once_and_not_for_ever():
    teacher = FakeTeacher(instructions=BROKEN)
    (row,) = propose(teacher, ask_again=True)
    assert row.rejection.reason == "malformed_reply" and len(instructions_of(teacher)) == 2


@pytest.mark.parametrize(
    "reply",
    [WHOLE, Reply(BROKEN, refusal="No."), Reply(BROKEN, finish_reason="length"), Reply("")],
    ids=["readable", "refused", "cut", "empty"],
)
def test_no_other_reply_is_asked_for_again(reply):
    teacher = FakeTeacher(instructions=reply)
    propose(teacher, ask_again=True)
    assert len(instructions_of(teacher)) == 1


def test_nothing_is_asked_for_again_by_default():
    teacher = FakeTeacher(instructions=BROKEN)
    propose(teacher)
    assert len(instructions_of(teacher)) == 1
