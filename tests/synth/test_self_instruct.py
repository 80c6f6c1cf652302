"""One batch of Self-Instruct against a fake teacher: what is asked, what is paid for, what comes out."""

import asyncio
import json
import random
from itertools import takewhile

import pytest

from app.synth.methods import self_instruct
from app.synth.quality.postprocess import normalise_instruction
from app.synth.quality.report import quality_report
from app.synth.types import Batch, Demonstration, Instance, Prompt, Rejection, Reply
from tests.fakes import FakeTeacher


def seed(n: int, classification: bool = False) -> Demonstration:
    return Demonstration(f"s{n}", f"Seed instruction number {n}", (Instance(f"in {n}", f"out {n}"),), classification)


SEEDS = tuple(seed(n, n % 3 == 0) for n in range(12))


def batch(language: str = "en", **options) -> Batch:
    return Batch(self_instruct.Options(**options), language, 7, 8, demonstrations=SEEDS[:8], examples=SEEDS)


def propose(teacher, known=(), **options):
    async def screen(draft):
        text = draft.instruction
        return Rejection("duplicate_lexical", 0.9, 0.7, "old", text) if text in known else None

    return asyncio.run(self_instruct.propose(batch(**options), teacher, screen)).candidates


def instructions(*texts) -> str:
    return json.dumps({"instructions": list(texts)})


def test_demonstrations_are_six_seeds_and_two_records():
    pool = [Demonstration(f"p{n}", f"Pool {n}") for n in range(5)]
    options = self_instruct.Options()
    for draw in range(50):
        mixed = self_instruct.mix_demonstrations(SEEDS, pool, options, random.Random(draw))
        assert sum(item.id.startswith("p") for item in mixed) == 2
        assert len({item.id for item in mixed}) == 8


@pytest.mark.parametrize(("records", "from_pool"), [(0, 0), (1, 1), (2, 2)])
def test_seeds_fill_the_places_of_missing_records(records, from_pool):
    pool = [Demonstration(f"p{n}", f"Pool {n}") for n in range(records)]
    mixed = self_instruct.mix_demonstrations(SEEDS, pool, self_instruct.Options(), random.Random(1))
    assert len(mixed) == 8
    assert sum(item.id.startswith("p") for item in mixed) == from_pool


def test_the_penalties_of_the_paper_are_options_and_are_not_sent_by_default():
    assert {prompt.presence_penalty for prompt in asked_by()} == {None}
    penalties = {"presence_penalty": 2.0, "instance_presence_penalty": 1.5, "classification": "own_call"}
    sent = {prompt.step: prompt.presence_penalty for prompt in asked_by(**penalties)}
    assert sent == {"instructions": 2.0, "classification": None, "instances": 1.5}


def asked_by(**options) -> list[Prompt]:
    teacher = FakeTeacher()
    propose(teacher, **options)
    return teacher.prompts


def test_every_demonstration_is_in_the_prompt_and_every_row_names_them():
    teacher = FakeTeacher()
    rows = propose(teacher)
    shown = teacher.prompts[0].user
    assert all(item.instruction in shown for item in SEEDS[:8])
    assert rows[0].parents == tuple(item.id for item in SEEDS[:8])
    assert len(rows) == 8
    assert all(row.rejection is None and len(row.completions) == 2 for row in rows)


def test_the_same_batch_makes_the_same_requests():
    first, second = FakeTeacher(), FakeTeacher()
    propose(first), propose(second)
    assert first.prompts[0] == second.prompts[0]


def test_what_is_known_or_broken_costs_no_further_call():
    rivers = "Name five rivers in Asia"
    told = instructions(rivers, "Plot it", f"1. {rivers}", "Explain tides to a child:")
    teacher = FakeTeacher(instructions=told)
    rows = propose(teacher, known={"Name five rivers in Asia"}, classification="own_call")
    by_text = {(row.instruction, row.rejection.reason if row.rejection else None) for row in rows}
    assert by_text == {
        ("Name five rivers in Asia", "duplicate_lexical"),
        ("Plot it", "too_short"),
        ("Name five rivers in Asia", "repeated_in_reply"),
        ("Explain tides to a child", None),
    }
    assert teacher.steps() == ["instructions", "classification", "instances"]


def test_classification_tasks_are_worked_out_label_first():
    teacher = FakeTeacher(
        instructions=instructions("Is this review positive or negative?"),
        classification='{"is_classification": true}',
        instances='{"instances": [{"output": "positive", "input": "I loved it"}]}',
    )
    (row,) = propose(teacher, classification="own_call")
    assert (row.is_classification, row.input, row.output) == (True, "I loved it", "positive")
    asked = teacher.prompts[-1]
    assert list(asked.schema["properties"]["instances"]["items"]["properties"]) == ["output", "input"]
    assert "classification task" in asked.system


def test_an_unreadable_classification_is_unknown_and_counted():
    teacher = FakeTeacher(instructions=instructions("Explain tides to a child"), classification="who knows")
    (row,) = propose(teacher, classification="own_call")
    assert row.is_classification is None
    assert quality_report([row])["unknown_verdicts"] == {"classification": 1}


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ('{"instances": [{"input": "a", "output": "a"}]}', ["output_equals_input"]),
        ('{"instances": [{"input": "a", "output": ""}]}', ["empty_output"]),
        (
            '{"instances": [{"input": "a", "output": "x"}, {"input": "a", "output": "y"}]}',
            ["contradictory_outputs", "contradictory_outputs"],
        ),
        ('{"instances": [{"input": "a", "output": "x"}, {"input": "a", "output": "x"}]}', [None, "repeated_in_reply"]),
        ('{"instances": [{"input": "a", "output": "x"}, {"input": "b", "output": "x"}]}', [None, None]),
        ('{"instances": []}', ["empty_output"]),
        (Reply('{"instances": [{"input": "a", "output": "x"}, {"input": "b', "length"), ["cut_off", None]),
        (Reply("", refusal="No."), ["refused"]),
        (Reply("Sorry, here is none", "length"), ["cut_off"]),
        ('{"instances": [{"input": 1}, {"input": 2}]}', ["malformed_reply"]),
        ('{"instances": [{"input": "a", "output": "x"}, {"input": 2}]}', ["malformed_reply", None]),
    ],
)
def test_instances(reply, outcome):
    teacher = FakeTeacher(instructions=instructions("Explain tides to a child"), instances=reply)
    rows = propose(teacher, max_instances=3)
    assert [row.rejection.reason if row.rejection else None for row in rows] == outcome


def test_a_cut_reply_loses_only_its_last_instruction():
    cut = Reply('{"instructions": ["Explain tides to a child", "Name five riv', "length")
    rows = propose(FakeTeacher(instructions=cut))
    assert [(row.instruction, row.rejection.reason if row.rejection else None) for row in rows] == [
        ("", "cut_off"),
        ("Explain tides to a child", None),
    ]


def test_a_chain_that_fails_lets_the_others_come_home():
    requests = []

    async def ask(prompt):
        requests.append(prompt.position)
        if prompt.position == "classification-0":
            raise ConnectionError("gone")
        await asyncio.sleep(0)
        return await FakeTeacher()(prompt)

    async def new(text):
        return None

    with pytest.raises(ConnectionError):
        asyncio.run(self_instruct.propose(batch(classification="own_call"), ask, new))
    assert "instances-7" in requests


def test_korean_prompts_are_korean():
    ko = batch("ko", classification="own_call")

    async def new(text):
        return None

    teacher = FakeTeacher(instructions=instructions("서울의 날씨를 요약하세요"))
    (row,) = asyncio.run(self_instruct.propose(ko, teacher, new)).candidates
    assert row.rejection is None
    assert all("한국어" in prompt.user or "과제" in prompt.system for prompt in teacher.prompts)


@pytest.mark.parametrize(
    ("raw", "tidied"),
    [("3. List it", "List it"), ("List  it :", "List it"), ("2024. was a year", "was a year"), ("a. b", "a. b")],
)
def test_tidy(raw, tidied):
    assert normalise_instruction(raw) == tidied


@pytest.mark.parametrize("step", ["classification", "instances"])
def test_the_calls_of_a_step_share_all_but_their_end_so_that_prompt_caches_hit(step):
    teacher = FakeTeacher()
    propose(teacher, classification="own_call")
    requests = ["\n".join(m["content"] for m in p.messages()) for p in teacher.prompts if p.step == step]
    shared = sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, zip(*requests, strict=False)))
    assert len(requests) == 8
    assert shared > 400 and all(len(item) - shared < 120 for item in requests)
