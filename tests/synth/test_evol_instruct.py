"""Lineages of Evol-Instruct: what is asked, what eliminates a child, who goes on."""

import asyncio
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.synth.methods import evol_instruct
from app.synth.methods.evol_instruct import Options, answer_rejection, draw_operations
from app.synth.methods.operations import OPERATIONS, WEIGHTS, leaks, wording
from app.synth.types import Batch, Parent, Rejection, Reply
from tests.fakes import FakeTeacher, nothing_known

PARENT = Parent("rec_1", "Name three rivers", "of Europe", "Rhine, Rhone, Po", "rec_1", 0, ("rec_0",))


def rewritten(prompt) -> str:
    """Longer by one clause a round; the input stays."""
    return json.dumps({"instruction": f"{inside(prompt)} and say why {len(inside(prompt))}", "input": "of Europe"})


def inside(prompt) -> str:
    return prompt.user.split("<instruction>")[1].split("</instruction>")[0]


def grow(teacher=None, screen=nothing_known, parents=(PARENT,), language="en", **options):
    teacher = teacher or evolving()
    batch = Batch(Options(**options), language, 7, len(parents), parents=parents)
    return list(asyncio.run(evol_instruct.propose(batch, teacher, screen)).candidates)


def evolving(**replies) -> FakeTeacher:
    standard = {
        "evolve": rewritten,
        "evol_equal": '{"equal": false}',
        "answer": "The Rhine is long. It has its reasons.",
    }
    return FakeTeacher(**standard | replies)


def reasons(rows) -> list:
    return [row.rejection.reason if row.rejection else None for row in rows]


def test_a_lineage_is_as_long_as_its_rounds_and_knows_its_parents():
    rows = grow(rounds=4)
    assert reasons(rows) == [None] * 4
    assert [row.round for row in rows] == [1, 2, 3, 4]
    assert [row.parents[0] for row in rows] == ["rec_1", rows[0].name, rows[1].name, rows[2].name]
    assert all(row.operation in OPERATIONS for row in rows)


def test_a_child_in_depth_may_resemble_all_it_grew_from_and_one_in_breadth_nothing():
    deep = grow(rounds=2, operations={"deepening": 1})
    assert deep[1].resembles == ("rec_0", "rec_1", deep[0].name)
    assert [row.resembles for row in grow(rounds=2, operations={"mutation": 1})] == [(), ()]


def test_when_a_child_fails_its_parent_goes_on():
    answers = iter(["I'm sorry, I can't do that.", "It is the Danube.", "The Po."])
    rows = grow(evolving(answer=lambda prompt: next(answers)), rounds=3)
    assert reasons(rows) == ["hard_to_answer", None, None]
    assert [row.round for row in rows] == [1, 1, 2]
    assert rows[1].parents == ("rec_1",) and rows[2].parents == (rows[1].name,)


@pytest.mark.parametrize(
    ("replies", "reason", "steps"),
    [
        ({"evolve": '{"instruction": "Name  three rivers", "input": "of Europe"}'}, "not_evolved", ["evolve"]),
        ({"evolve": '{"instruction": "The rewritten instruction is: name rivers"}'}, "leaks_prompt", ["evolve"]),
        ({"evolve": '{"instruction": ""}'}, "empty_instruction", ["evolve"]),
        ({"evolve": "no idea"}, "malformed_reply", ["evolve"]),
        ({"evolve": Reply('{"instruction": "Na', "length")}, "cut_off", ["evolve"]),
        ({"evolve": Reply("", refusal="No.")}, "refused", ["evolve"]),
        ({"evol_equal": '{"equal": true}'}, "not_evolved", ["evolve", "evol_equal"]),
        ({"answer": "And so it is, of course... the"}, None, ["evolve", "evol_equal", "answer"]),
        ({"answer": "It is."}, "only_stop_words", ["evolve", "evol_equal", "answer"]),
        ({"answer": Reply("A river", "length")}, "cut_off", ["evolve", "evol_equal", "answer"]),
    ],
)
def test_what_eliminates_a_child_and_what_is_paid_for_before(replies, reason, steps):
    teacher = evolving(**replies)
    (row,) = grow(teacher, rounds=1)
    assert reasons([row]) == [reason]
    assert teacher.steps() == steps


def test_a_known_child_is_neither_judged_nor_answered():
    async def known(draft):
        return Rejection("duplicate_lexical", 0.9, 0.7)

    teacher = evolving()
    (row,) = grow(teacher, known, rounds=1)
    assert (reasons([row]), teacher.steps()) == (["duplicate_lexical"], ["evolve"])


def test_the_equality_judge_can_be_left_out_and_its_silence_means_new():
    teacher = evolving()
    grow(teacher, rounds=2, judge_equal=False)
    assert "evol_equal" not in teacher.steps()
    assert reasons(grow(evolving(evol_equal="hm"), rounds=1)) == [None]


def test_the_judge_is_asked_as_the_judge_and_every_call_names_its_operation():
    teacher = evolving()
    grow(teacher, rounds=1, operations={"reasoning": 1})
    assert [prompt.by for prompt in teacher.prompts] == ["teacher", "judge", "teacher"]
    assert {prompt.operation for prompt in teacher.prompts} == {"reasoning"}


def test_selection_answers_the_best_child_alone():
    grades = iter([2, 5, 3])

    def judged(prompt):
        verdict = {"clarity": 4, "answerable": True, "harmless": True, "difficulty": next(grades), "topic": "rivers"}
        return json.dumps(verdict)

    def unlike(prompt):
        return json.dumps({"instruction": f"Name {prompt.position} rivers of Asia", "input": ""})

    teacher = evolving(judge_question=judged, evolve=unlike)
    rows = grow(teacher, rounds=1, survival="selection", children=3)
    assert reasons(rows) == ["not_selected", None, "not_selected"]
    assert teacher.steps().count("answer") == 1
    assert rows[1].scores["judge.difficulty"] == 5 and rows[1].tags["topic"] == "rivers"


def test_the_parents_answer_is_the_worse_one_of_a_pair():
    told = "Rhine, Rhone and Po, since these three rivers of Europe carry most of the ships"
    (row,) = grow(
        evolving(answer=told),
        rounds=1,
        operations={"constraints": 1},
        parents=(Parent("p", "Name three rivers", "", "I'm sorry, but I can't say."),),
    )
    (pair,) = row.pairs
    assert (pair.kind, pair.chosen, pair.rejected) == ("evolution", row.output, "I'm sorry, but I can't say.")
    assert 0 < pair.margin <= 1
    assert grow(evolving(), rounds=1, operations={"topic": 1})[0].pairs == ()


def test_the_operations_are_drawn_by_their_weights():
    drawn = []
    for seed in range(300):
        batch = Batch(Options(rounds=4, answer=False, judge_equal=False), "en", seed, 1, parents=(PARENT,))
        drawn += [
            row.operation for row in asyncio.run(evol_instruct.propose(batch, evolving(), nothing_known)).candidates
        ]
    shares = {name: drawn.count(name) / len(drawn) for name in OPERATIONS}
    for name, weight in WEIGHTS.items():
        assert shares[name] == pytest.approx(weight / sum(WEIGHTS.values()), abs=0.03)


@pytest.mark.parametrize("language", ["en", "ko", "de"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_is_worded_and_its_words_do_not_leak(language, operation):
    text = wording(operation, language)
    assert text and ("\n" not in text)
    assert not any(phrase in text.casefold() for phrase in leaks(language))
    assert any("가" <= c <= "힣" for c in text) == (language == "ko")


def test_in_depth_and_in_breadth_have_prompts_of_their_own():
    for operation, kind in OPERATIONS.items():
        teacher = evolving()
        grow(teacher, rounds=1, operations={operation: 1}, language="ko")
        assert teacher.prompts[0].template.startswith(f"evol_{kind}")


@pytest.mark.parametrize(
    ("output", "language", "reason"),
    [
        ("Sorry, I don't know.", "en", "hard_to_answer"),
        ("Sorry " + "word " * 80, "en", None),
        ("죄송하지만 알 수 없습니다.", "ko", "hard_to_answer"),
        ("죄송합니다. " + "말 " * 90, "ko", None),
        ("... !", "en", "only_stop_words"),
        ("그리고 또 그런 것은...", "ko", "only_stop_words"),
        ("yes", "en", None),
        ("예", "ko", None),
        ("42", "en", None),
    ],
)
def test_elimination_by_the_answer(output, language, reason):
    rejection = answer_rejection(output, language, 80)
    assert (rejection.reason if rejection else None) == reason


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"operations": {"nope": 1}}, "no operation 'nope'"),
        ({"operations": {"topic": 0}}, "above 0"),
        ({"operations": {"topic": -1}}, "0 or more"),
        ({"rounds": 0}, "greater than or equal to 1"),
        ({"rules": "nope"}, "no preset 'nope'"),
        ({"minimum_scores": {"nope": 1}}, "no score 'nope'"),
        ({"minimum_scores": {"relevance": 2}}, "between 0 and 1"),
        ({"parents": {"nope": 1}}, "Extra inputs"),
    ],
)
def test_options_are_checked(options, words):
    with pytest.raises(ValidationError, match=words):
        Options(**options)


@given(st.text(max_size=200), st.text(max_size=60))
def test_any_rewriting_gives_one_row_a_round(instruction, input):
    teacher = evolving(evolve=json.dumps({"instruction": instruction, "input": input}))
    rows = grow(teacher, rounds=2)
    assert len(rows) == 2
    assert all(row.rejection is not None or row.output for row in rows)


def test_the_same_batch_asks_the_same():
    first, second = evolving(), evolving()
    grow(first, rounds=3), grow(second, rounds=3)
    assert first.prompts == second.prompts


def test_siblings_are_made_by_different_operations_as_long_as_there_are_any():
    weights = {"constraints": 1.0, "deepening": 3.0, "unused": 0.0}
    for seed in range(50):
        drawn = draw_operations(weights, 5, random.Random(seed))
        assert set(drawn[:2]) == set(drawn[2:4]) == {"constraints", "deepening"}
    firsts = [draw_operations(weights, 1, random.Random(seed))[0] for seed in range(400)]
    assert 0.68 < firsts.count("deepening") / 400 < 0.82


def test_every_request_of_a_batch_differs_in_its_seed_or_its_text():
    teacher = evolving(judge_question='{"clarity": 4, "difficulty": 3, "answerable": true, "harmless": true}')
    grow(teacher, survival="selection", children=4, operations={"constraints": 1.0})
    requests = [(prompt.seed, prompt.system, prompt.user) for prompt in teacher.prompts]
    assert len(set(requests)) == len(requests) > 4
