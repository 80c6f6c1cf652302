"""The library as a notebook user meets it."""

import asyncio
import json

import pytest

from app import synth
from tests.fakes import hash_encoder, unlike


def teacher_of(made: list):
    def teacher(messages: list[dict]) -> str:
        request_text = messages[-1]["content"]
        made.append(request_text)
        if "<demonstrations>" in request_text:
            return json.dumps({"instructions": [f"Explain to me {unlike(len(made), n)}" for n in range(8)]})
        if "decide" in request_text:
            return '{"is_classification": false}'
        return json.dumps({"instances": [{"input": "", "output": f"An answer about {len(made)}"}]})

    return teacher


SEEDS = [synth.Demonstration("a", "Name three fruits", (synth.Instance("", "apple, pear, plum"),), False)]


def test_exactly_the_target_is_accepted():
    grown = synth.grow("self_instruct", SEEDS, teacher_of([]), target=20)
    assert (len(grown.accepted), grown.stop_reason) == (20, "target_reached")
    assert len({row.instruction for row in grown.accepted}) == 20


def test_an_async_teacher_inside_a_running_loop_and_an_encoder():
    plain = teacher_of([])

    async def teacher(messages):
        return plain(messages)

    async def cell():
        return synth.grow("self_instruct", SEEDS, teacher, target=5, encode=hash_encoder)

    assert len(asyncio.run(cell()).accepted) == 5


def test_a_teacher_that_repeats_itself_ends_by_its_ceiling():
    def teacher(messages):
        return '{"instructions": ["Name three fruits"]}'

    grown = synth.grow("self_instruct", SEEDS, teacher, target=5, max_calls=12)
    assert (grown.accepted, grown.stop_reason, grown.calls) == ([], "max_calls", 12)
    assert set(grown.reasons()) == {"too_short"}


@pytest.mark.parametrize(("method", "seeds", "words"), [("nope", SEEDS, "no method"), ("self_instruct", [], "seed")])
def test_bad_arguments(method, seeds, words):
    with pytest.raises(ValueError, match=words):
        synth.grow(method, seeds, teacher_of([]), target=1)
