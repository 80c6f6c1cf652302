"""The best of several answers in two calls: one for the answers, one judgement of all of them."""

import asyncio
import json
import re

import pytest

from app.synth.methods import responses
from app.synth.methods.responses import Options
from app.synth.quality.options import ASPECTS
from app.synth.types import Batch, CallFailed, Parent, Reply
from tests.fakes import FakeTeacher, nothing_known

PARENT = Parent("rec_1", "Name a river", "in Asia", group_id="rec_1")
LENA, MEKONG, VAGUE = "The Lena is a long one.", "The Mekong flows through Asia.", "A river, I think."


def respond(teacher, seed=3, **options):
    batch = Batch(Options(**({"answers": 3} | options)), "en", seed, 1, parents=(PARENT,))
    return list(asyncio.run(responses.propose(batch, teacher, nothing_known)).candidates)


def answers_reply(*items) -> str:
    return json.dumps({"answers": list(items)})


def answers_of(prompt) -> dict[int, str]:
    numbered_texts = re.findall(r"<answer_(\d+)>(.*?)</answer_\1>", prompt.user, re.DOTALL)
    return {int(number): text for number, text in numbered_texts}


def scored(scores: dict):
    """A judge that finds each answer by its text, wherever it stands."""

    def judge(prompt):
        items = [{"number": number, "score": scores[text]} for number, text in answers_of(prompt).items()]
        return json.dumps({"rationale": "", "scores": items})

    return judge


def outcome(rows) -> dict:
    return {row.output: row.rejection.reason if row.rejection else None for row in rows}


def test_two_calls_give_the_best_answer_and_its_pair():
    teacher = FakeTeacher(
        answers=answers_reply(LENA, MEKONG, VAGUE), judge_list=scored({LENA: 8, MEKONG: 10, VAGUE: 1})
    )
    rows = respond(teacher)
    assert teacher.steps() == ["answers", "judge_list"]
    assert outcome(rows) == {LENA: "not_selected", MEKONG: None, VAGUE: "low_judge_score"}
    (best,) = [row for row in rows if row.rejection is None]
    (pair,) = best.pairs
    assert (pair.kind, pair.chosen, pair.rejected, pair.margin) == ("best_worst", MEKONG, VAGUE, 1.0)
    assert best.scores["judge.overall"] == 5
    assert next(row for row in rows if row.output == LENA).scores["judge.overall"] == pytest.approx(4.1111)
    judged = teacher.prompts[1]
    assert (judged.by, judged.temperature) == ("judge", 0.0) and "Name a river\n\nin Asia" in judged.user


def test_the_order_is_drawn_by_the_seed_and_has_no_effect_on_the_outcome():
    orders = set()
    for seed in range(20):
        teacher = FakeTeacher(
            answers=answers_reply(LENA, MEKONG, VAGUE), judge_list=scored({LENA: 8, MEKONG: 10, VAGUE: 1})
        )
        assert outcome(respond(teacher, seed)) == {LENA: "not_selected", MEKONG: None, VAGUE: "low_judge_score"}
        orders.add(tuple(answers_of(teacher.prompts[1]).values()))
        again = FakeTeacher(
            answers=answers_reply(LENA, MEKONG, VAGUE), judge_list=scored({LENA: 8, MEKONG: 10, VAGUE: 1})
        )
        respond(again, seed)
        assert again.prompts == teacher.prompts
    assert len(orders) == 6


def test_a_judge_that_favours_a_position_favours_no_answer():
    def first_is_best(prompt):
        scores = [{"number": number, "score": 10 if number == 1 else 7} for number in answers_of(prompt)]
        return json.dumps({"rationale": "", "scores": scores})

    winners = []
    for seed in range(40):
        rows = respond(FakeTeacher(answers=answers_reply(LENA, MEKONG, VAGUE), judge_list=first_is_best), seed)
        winners += [row.output for row in rows if row.rejection is None]
    assert all(winners.count(text) >= 5 for text in (LENA, MEKONG, VAGUE))


def test_when_no_answer_is_good_enough_none_is_accepted_and_a_tie_keeps_the_earlier_one():
    low = FakeTeacher(answers=answers_reply(LENA, MEKONG), judge_list=scored({LENA: 6, MEKONG: 6}))
    assert outcome(respond(low, answers=2)) == {LENA: "low_judge_score", MEKONG: "low_judge_score"}
    tie = FakeTeacher(answers=answers_reply(LENA, MEKONG), judge_list=scored({LENA: 9, MEKONG: 9}))
    rows = respond(tie, answers=2)
    assert outcome(rows) == {LENA: None, MEKONG: "not_selected"} and rows[0].pairs == ()


@pytest.mark.parametrize(
    ("reply", "unjudged"),
    [
        ('{"rationale": "", "scores": [{"number": 1, "score": 9}, {"number": 2, "score": 8}]}', 1),
        ('{"scores": [{"number": 1, "score": 9}, {"number": 1, "score": 2}, {"number": 8, "score": 9}]}', 2),
        ('{"scores": [{"number": 1, "score": 11}, {"number": 2, "score": 9}, {"number": 3, "score": "?"}]}', 2),
        (Reply('{"scores": [{"number": 1, "score": 9}, {"numb', "length"), 2),
        ("The first one is best.", 3),
        (Reply("", refusal="No."), 3),
    ],
)
def test_an_answer_without_a_score_is_unjudged_and_the_others_compete(reply, unjudged):
    rows = respond(FakeTeacher(answers=answers_reply(LENA, MEKONG, VAGUE), judge_list=reply))
    reasons = list(outcome(rows).values())
    assert reasons.count("unjudged") == unjudged and reasons.count(None) == (1 if unjudged < 3 else 0)


def test_a_judgement_that_fails_keeps_the_answers_as_rejected_rows():
    def fails(prompt):
        raise CallFailed("request_refused", "said no")

    rows = respond(FakeTeacher(answers=answers_reply(LENA, MEKONG), judge_list=fails), answers=2)
    assert outcome(rows) == {LENA: "request_refused", MEKONG: "request_refused"}


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (answers_reply(MEKONG, 7, {"output": LENA}), ["malformed_reply", "not_selected", None]),
        (answers_reply(MEKONG, MEKONG, MEKONG), ["repeated_answer", "repeated_answer", None]),
        (answers_reply(MEKONG, "in Asia", ""), ["output_equals_input", "empty_output", None]),
        (answers_reply(MEKONG, "I'm sorry, but I can't help with that."), ["low_no_refusal", None]),
        (answers_reply(MEKONG, LENA, VAGUE, "A fourth river."), ["not_selected", "low_judge_score", None]),
        (Reply(f'{{"answers": ["{MEKONG}", "The Len', "length"), ["cut_off", None]),
        (Reply("", refusal="No."), ["refused"]),
        ('{"answers": []}', ["empty_reply"]),
        ("A river.", ["malformed_reply"]),
    ],
)
def test_an_answer_that_cannot_be_used_costs_itself_alone(reply, expected):
    teacher = FakeTeacher(answers=reply, judge_list=scored({MEKONG: 9, LENA: 8, VAGUE: 1}))
    rows = respond(teacher)
    assert sorted(map(str, (row.rejection.reason if row.rejection else None for row in rows))) == sorted(
        map(str, expected)
    )


def test_several_answers_by_steps_have_their_reasoning_in_a_field_of_its_own():
    items = [{"reasoning": "Asia has many.", "output": MEKONG}, {"output": LENA}]
    rows = respond(FakeTeacher(answers=answers_reply(*items), judge_list=scored({MEKONG: 9})), steps_share=1)
    accepted = [row for row in rows if row.rejection is None]
    assert [(row.reasoning, row.output, row.operation) for row in accepted] == [("Asia has many.", MEKONG, "steps")]
    assert [row.rejection.reason for row in rows if row.rejection] == ["malformed_reply"]


def test_the_stage_of_the_answer_judges_the_best_one_alone():
    verdict = json.dumps({"rationale": "", **dict.fromkeys(ASPECTS, 2), "difficulty": 2, "topic": ""})
    teacher = FakeTeacher(
        answers=answers_reply(LENA, MEKONG), judge_list=scored({LENA: 8, MEKONG: 10}), judge_answer=verdict
    )
    rows = respond(teacher, answers=2, judging={"answer": True})
    assert teacher.steps() == ["answers", "judge_list", "judge_answer"]
    assert outcome(rows) == {LENA: "not_selected", MEKONG: "low_judge_score"}


def test_answers_of_their_own_calls_are_judged_together_too():
    texts = iter((LENA, MEKONG, VAGUE))
    teacher = FakeTeacher(answer=lambda prompt: next(texts), judge_list=scored({LENA: 8, MEKONG: 10, VAGUE: 1}))
    rows = respond(teacher, answer_calls="one_each")
    assert teacher.steps() == ["answer"] * 3 + ["judge_list"]
    assert outcome(rows)[MEKONG] is None


@pytest.mark.parametrize(
    ("judging", "lines"),
    [
        ({}, ""),
        (
            {"rubric": [{"name": "tone", "description": "it is friendly"}]},
            "Weigh these criteria as well:\ntone: it is friendly\n\n",
        ),
        ({"aspects": ["clarity"]}, "Judge by these criteria alone:\nclarity\n\n"),
    ],
)
def test_the_callers_criteria_are_shown_and_part_of_the_lineage(judging, lines):
    teacher = FakeTeacher(answers=answers_reply(LENA, MEKONG), judge_list=scored({LENA: 8, MEKONG: 10}))
    respond(teacher, answers=2, judging=judging)
    prompt = teacher.prompts[1]
    assert prompt.user.startswith(f"{lines}<instruction>")
    assert ("+rubric@" in prompt.template) == ("rubric" in judging)
