"""Answers to what has none, and the best of several."""

import asyncio
import json

import pytest

from app.synth.methods import responses
from app.synth.methods.responses import Options
from app.synth.quality.options import ASPECTS
from app.synth.types import Batch, Parent, Reply
from tests.fakes import FakeTeacher, nothing_known

EACH = {"answer_calls": "one_each", "choose_by": "score"}
PARENT = Parent("rec_1", "Name a river", "in Asia", group_id="rec_1")


def graded(grades: dict):
    def judge(prompt):
        said = prompt.user.split("<output>")[1].split("</output>")[0]
        return json.dumps({"rationale": "", **dict.fromkeys(ASPECTS, grades[said]), "difficulty": 2, "topic": ""})

    return judge


def answers(*texts):
    told = iter(texts)
    return lambda prompt: next(told)


def respond(teacher, parents=(PARENT,), **options):
    batch = Batch(Options(**options), "en", 3, len(parents), parents=parents)
    return list(asyncio.run(responses.propose(batch, teacher, nothing_known)).candidates)


def reasons(rows):
    return [row.rejection.reason if row.rejection else None for row in rows]


def test_one_answer_to_each_question():
    rows = respond(FakeTeacher(answer="The Mekong flows through Asia."), (PARENT, PARENT))
    assert reasons(rows) == [None, None]
    assert (rows[0].instruction, rows[0].input, rows[0].output) == (
        "Name a river",
        "in Asia",
        "The Mekong flows through Asia.",
    )
    assert rows[0].parents == ("rec_1",) and rows[0].scope == "row"


def test_the_best_of_several_is_kept_with_the_worst_beside_it():
    texts = ("The Lena is a long one.", "The Mekong flows through Asia.", "A river, I think.")
    teacher = FakeTeacher(answer=answers(*texts), judge_answer=graded(dict(zip(texts, (4, 5, 3), strict=True))))
    rows = respond(teacher, answers=3, **EACH)
    assert reasons(rows) == ["not_selected", None, "low_judge_score"]
    (pair,) = rows[1].pairs
    assert (pair.kind, pair.chosen, pair.rejected, pair.margin) == ("best_worst", texts[1], texts[2], 0.5)


def test_when_no_answer_is_good_enough_none_is_accepted():
    texts = ("The Lena is a long one.", "The Mekong flows through Asia.")
    teacher = FakeTeacher(answer=answers(*texts), judge_answer=graded(dict.fromkeys(texts, 3)))
    assert reasons(respond(teacher, answers=2, **EACH)) == ["low_judge_score", "low_judge_score"]


def test_a_copy_among_the_answers_is_not_judged_against_itself():
    teacher = FakeTeacher(
        answer="The Mekong flows through Asia.", judge_answer=graded({"The Mekong flows through Asia.": 5})
    )
    rows = respond(teacher, answers=2, **EACH)
    assert reasons(rows) == [None, "repeated_answer"]
    assert rows[0].pairs == ()


def test_comparisons_choose_by_knock_out():
    texts = ("The Lena is a long one.", "The Mekong flows through Asia.", "A river, I think.")

    def longer(prompt):
        first, second = (prompt.user.split(f"<answer_{x}>")[1].split(f"</answer_{x}>")[0] for x in "ab")
        return json.dumps({"rationale": "", "better": "A" if len(first) > len(second) else "B"})

    teacher = FakeTeacher(answer=answers(*texts), judge_pair=longer)
    rows = respond(teacher, answers=3, answer_calls="one_each", choose_by="comparison")
    assert reasons(rows) == ["not_selected", None, "not_selected"]
    assert teacher.steps().count("judge_pair") == 4
    assert rows[1].pairs[0].chosen == texts[1]


def test_a_share_is_worked_out_step_by_step_in_a_field_of_its_own():
    told = json.dumps({"reasoning": "Asia has many.", "output": "The Mekong."})
    teacher = FakeTeacher(answer=lambda prompt: told if prompt.schema else "The Mekong flows through Asia.")
    rows = [row for seed in range(60) for row in _with_seed(teacher, seed)]
    stepped = [row for row in rows if row.operation == "steps"]
    assert 2 <= len(stepped) <= 14
    assert all(row.reasoning == "Asia has many." and row.output == "The Mekong." for row in stepped)
    assert not any(row.reasoning for row in rows if row.operation != "steps")


def _with_seed(teacher, seed):
    batch = Batch(Options(steps_share=0.1), "en", seed, 1, parents=(PARENT,))
    return asyncio.run(responses.propose(batch, teacher, nothing_known)).candidates


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply("Half an ans", "length"), "cut_off"),
        (Reply("", refusal="No."), "refused"),
        ("", "empty_reply"),
        ("I'm sorry, but I can't help with that.", "low_no_refusal"),
        ("in Asia", "output_equals_input"),
        ("ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha", "low_no_repetition"),
    ],
)
def test_an_answer_that_cannot_be_used(reply, reason):
    assert reasons(respond(FakeTeacher(answer=reply))) == [reason]
