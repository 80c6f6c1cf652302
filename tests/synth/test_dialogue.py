"""Dialogues: turns alternate, stop when they should, and are whole."""

import asyncio
import json

import pytest
from pydantic import ValidationError

from app.synth.methods import dialogue
from app.synth.methods.dialogue import Options
from app.synth.types import Batch, Parent, Rejection, Reply
from tests.fakes import FakeTeacher, nothing_known, unlike

PARENT = Parent("rec_1", "How do I bake bread?", "", "With flour, water and patience.", "rec_1")


def asks(prompt) -> str:
    return json.dumps({"done": False, "message": f"And what about {unlike(prompt.position)}?"})


def talk(teacher=None, parents=(PARENT,), screen=nothing_known, conditioning=None, seed=5, **options):
    teacher = teacher or talking()
    batch = Batch(Options(**options), "en", seed, 1, parents=parents, conditioning=conditioning or {})
    return list(asyncio.run(dialogue.propose(batch, teacher, screen)).candidates)


def talking(**replies) -> FakeTeacher:
    answer = lambda prompt: f"It depends on {unlike(prompt.position)}."  # noqa: E731
    return FakeTeacher(**{"dialogue_user": asks, "dialogue_assistant": answer} | replies)


def roles(row) -> list[str]:
    return [turn.role for turn in row.messages]


@pytest.mark.parametrize("seed", range(6))
def test_turns_alternate_and_their_number_is_within_bounds(seed):
    (row,) = talk(seed=seed, min_turns=2, max_turns=5)
    assert row.rejection is None
    assert roles(row) == ["user", "assistant"] * (len(row.messages) // 2)
    assert 2 <= row.tags["turns"] <= 5
    assert row.output == row.messages[-1].content


def test_a_dialogue_from_a_record_begins_with_it_and_pays_nothing_for_its_answer():
    teacher = talking()
    (row,) = talk(teacher, min_turns=2, max_turns=2)
    assert [turn.content for turn in row.messages[:2]] == [PARENT.instruction, PARENT.output]
    assert (row.scope, row.parents) == ("row", ("rec_1",))
    assert teacher.steps() == ["dialogue_user", "dialogue_assistant"]


def test_the_assistant_is_asked_with_the_real_turns():
    teacher = talking()
    talk(teacher, min_turns=3, max_turns=3)
    last = teacher.prompts[-1]
    assert [role for role, _ in last.turns] == ["user", "assistant", "user", "assistant"]
    assert [message["role"] for message in last.messages()] == ["system", *(role for role, _ in last.turns), "user"]


def test_a_dialogue_on_a_topic_opens_anew():
    teacher = talking(dialogue_opening='{"message": "My sourdough will not rise, what now?"}')
    (row,) = talk(teacher, parents=(), conditioning={"topics": ["bread"]}, topics=("bread",), min_turns=1, max_turns=1)
    assert (row.instruction, row.scope, row.tags["topic"]) == (
        "My sourdough will not rise, what now?",
        "instruction",
        "bread",
    )


def test_a_known_opening_costs_no_further_call():
    async def known(draft):
        return Rejection("duplicate_lexical", 0.9, 0.7)

    teacher = talking(dialogue_opening='{"message": "My sourdough will not rise, what now?"}')
    (row,) = talk(teacher, (), known, {"topics": ["bread"]}, topics=("bread",))
    assert (row.rejection.reason, teacher.steps()) == ("duplicate_lexical", ["dialogue_opening"])


@pytest.mark.parametrize(
    ("replies", "stopped", "turns"),
    [
        ({"dialogue_user": '{"done": true, "message": ""}'}, "user_content", 1),
        ({"dialogue_user": '{"done": false, "message": "How do I bake bread"}'}, "user_repeats", 1),
        ({"dialogue_user": "nothing of use"}, "malformed_reply", 1),
        ({"dialogue_assistant": Reply("It dep", "length")}, "cut_off", 1),
    ],
)
def test_why_a_dialogue_ends_early(replies, stopped, turns):
    (row,) = talk(talking(**replies), min_turns=1, max_turns=4, seed=2)
    assert (row.tags["stopped"], row.tags["turns"], row.rejection) == (stopped, turns, None)
    (short,) = talk(talking(**replies), min_turns=2, max_turns=4, seed=2)
    assert short.rejection.reason in ("too_few_turns", stopped)


def test_a_dialogue_does_not_go_on_for_ever():
    (row,) = talk(talking(dialogue_assistant="word " * 60), min_turns=1, max_turns=8, most_words=50, seed=1)
    assert (row.tags["stopped"], row.tags["turns"]) == ("most_words", 2)


def test_a_refusal_among_the_answers_turns_the_dialogue_away():
    (row,) = talk(talking(dialogue_assistant="I'm sorry, but I can't help with that."), min_turns=2, max_turns=2)
    assert row.rejection.reason == "low_no_refusal"


def test_the_bounds_are_checked():
    with pytest.raises(ValidationError, match="over max_turns"):
        Options(min_turns=5, max_turns=2)
    with pytest.raises(ValidationError):
        Options(max_turns=9)
