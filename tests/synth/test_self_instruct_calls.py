"""The variants of Self-Instruct that share a call: the classification with the instructions, instances together."""

import asyncio
import json

import pytest

from app.synth.methods import self_instruct
from app.synth.quality.report import quality_report
from app.synth.types import Batch, CallFailed, CallsEnded, Demonstration, Instance, Rejection, Reply
from tests.fakes import FakeTeacher, nothing_known

SEEDS = tuple(
    Demonstration(f"s{n}", f"Seed instruction number {n}", (Instance(f"in {n}", f"out {n}"),), n % 3 == 0)
    for n in range(12)
)
TIDES, RIVERS, REVIEW = "Explain tides to a child", "Name five rivers in Asia", "Is this review positive or negative?"


def propose(teacher, screen=nothing_known, language="en", demonstrations=SEEDS[:8], **options):
    batch = Batch(self_instruct.Options(**options), language, 7, 8, demonstrations=demonstrations, examples=SEEDS)
    return list(asyncio.run(self_instruct.propose(batch, teacher, screen)).candidates)


def reasons(rows):
    return [row.rejection.reason if row.rejection else None for row in rows]


def instructions_reply(*items) -> str:
    return json.dumps({"instructions": list(items)})


def numbered(*items) -> str:
    return json.dumps({"instances": [dict(zip(("number", "input", "output"), item, strict=True)) for item in items]})


def test_the_flag_comes_with_the_instruction_and_decides_which_field_comes_first():
    flags = [{"instruction": REVIEW, "is_classification": True}, {"instruction": TIDES, "is_classification": False}]
    teacher = FakeTeacher(instructions=instructions_reply(*flags))
    rows = propose(teacher)
    assert [row.is_classification for row in rows] == [True, False]
    assert teacher.steps() == ["instructions", "instances", "instances"]
    items = [prompt.schema["properties"]["instances"]["items"] for prompt in teacher.prompts[1:]]
    assert [next(iter(item["properties"])) for item in items] == ["output", "input"]


@pytest.mark.parametrize(
    ("item", "flag"),
    [
        ({"instruction": TIDES, "is_classification": "true"}, True),
        ({"instruction": TIDES, "is_classification": "아니요"}, False),
        ({"instruction": TIDES, "is_classification": "perhaps"}, None),
        ({"instruction": TIDES, "is_classification": 7}, None),
        ({"instruction": TIDES, "is_classification": None}, None),
        ({"instruction": TIDES}, None),
        (TIDES, None),
    ],
)
def test_an_unreadable_flag_is_unknown_and_costs_neither_its_instruction_nor_a_call(item, flag):
    teacher = FakeTeacher(instructions=instructions_reply(item))
    (row,) = propose(teacher)
    assert (row.instruction, row.rejection, row.is_classification) == (TIDES, None, flag)
    assert quality_report([row])["unknown_verdicts"] == ({"classification": 1} if flag is None else {})
    assert teacher.steps() == ["instructions", "instances"]


def test_a_broken_item_costs_itself_alone():
    rows = propose(FakeTeacher(instructions=instructions_reply({"is_classification": True}, 3, {"instruction": TIDES})))
    assert reasons(rows) == ["malformed_reply", "malformed_reply", None]


def test_tagged_items_are_read_with_their_flag():
    item = "<item>\n<instruction>{}</instruction>\n<is_classification>{}</is_classification>\n</item>"
    reply = f"<instructions>{item.format(REVIEW, 'yes')}{item.format(TIDES, 'no')}</instructions>"
    rows = propose(FakeTeacher(instructions=reply))
    assert [(row.instruction, row.is_classification) for row in rows] == [(REVIEW, True), (TIDES, False)]


@pytest.mark.parametrize("language", ["en", "ko"])
def test_demonstrations_show_their_flag_where_it_is_known(language):
    unknown = Demonstration("p1", "Pool instruction")
    teacher = FakeTeacher()
    propose(teacher, language=language, demonstrations=(SEEDS[0], SEEDS[1], unknown))
    prompt = teacher.prompts[0]
    lines = prompt.user.split("<demonstrations>\n")[1].split("\n</demonstrations>")[0].splitlines()
    assert lines == [
        "1. Seed instruction number 0",
        "   is_classification: true",
        "2. Seed instruction number 1",
        "   is_classification: false",
        "3. Pool instruction",
    ]
    assert '"is_classification"' in prompt.system


def test_a_call_of_its_own_shows_no_flags():
    teacher = FakeTeacher()
    propose(teacher, classification="own_call")
    assert "is_classification" not in teacher.prompts[0].user + teacher.prompts[0].system
    assert teacher.steps().count("classification") == 8


def test_instances_together_are_one_call_for_the_new_instructions_of_a_batch():
    async def screen(draft):
        return Rejection("duplicate_lexical", 0.9, 0.7, "old", RIVERS) if draft.instruction == RIVERS else None

    flags = [
        {"instruction": RIVERS, "is_classification": False},
        {"instruction": REVIEW, "is_classification": True},
        {"instruction": "Plot it", "is_classification": False},
        {"instruction": TIDES, "is_classification": False},
    ]
    teacher = FakeTeacher(
        instructions=instructions_reply(*flags),
        instances=numbered((2, "", "The moon pulls."), (1, "I loved it", "positive")),
    )
    rows = propose(teacher, screen, instances="together")
    assert teacher.steps() == ["instructions", "instances"]
    by_text = {row.instruction: row for row in rows}
    assert (by_text[REVIEW].input, by_text[REVIEW].output) == ("I loved it", "positive")
    assert (by_text[TIDES].input, by_text[TIDES].output) == ("", "The moon pulls.")
    assert len(rows) == 4 and reasons([by_text[RIVERS], by_text["Plot it"]]) == ["duplicate_lexical", "too_short"]
    prompt = teacher.prompts[1]
    assert f"<tasks>\n1. {REVIEW}\n   is_classification: true\n2. {TIDES}\n</tasks>" in prompt.user
    fields = prompt.schema["properties"]["instances"]["items"]["properties"]
    assert list(fields) == ["number", "label", "input", "output"] and prompt.max_tokens == 2048


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (numbered((1, "", "The moon.")), [None, "empty_output"]),
        (numbered((2, "", "The Mekong.")), ["empty_output", None]),
        (numbered((1, "", "The moon."), (2, "", 7)), [None, "malformed_reply"]),
        (numbered((1, "", "The moon."), (9, "", "The Mekong.")), [None, "empty_output"]),
        (numbered((1, "", "The moon."), (2, "", "")), [None, "empty_output"]),
        (numbered((1, "", "The moon."), (1, "x", "A second."), (2, "", "The Mekong.")), [None, None]),
        (Reply(numbered((1, "", "The moon."), (2, "", "The Mekong."))[:-20], "length"), [None, "cut_off"]),
        ("nothing to read", ["malformed_reply", "malformed_reply"]),
        ('{"instances": []}', ["empty_output", "empty_output"]),
        (Reply("", refusal="No."), ["refused", "refused"]),
    ],
)
def test_an_instance_that_is_missing_or_unreadable_costs_its_instruction_alone(reply, outcome):
    rows = propose(FakeTeacher(instructions=instructions_reply(TIDES, RIVERS), instances=reply), instances="together")
    assert reasons(rows) == outcome
    assert [row.instruction for row in rows] == [TIDES, RIVERS]


def test_more_than_eight_instructions_are_two_calls():
    texts = [f"Explain subject {n} of the {word} to me" for n, word in enumerate("abcdefghij")]
    teacher = FakeTeacher(
        instructions=instructions_reply(*texts), instances=numbered(*((n, "", f"It is {n}.") for n in range(1, 9)))
    )
    batch = Batch(self_instruct.Options(instances="together"), "en", 7, 10, demonstrations=SEEDS[:8], examples=SEEDS)
    rows = asyncio.run(self_instruct.propose(batch, teacher, nothing_known)).candidates
    assert teacher.steps() == ["instructions", "instances", "instances"]
    assert reasons(rows) == [None] * 10
    assert [prompt.position for prompt in teacher.prompts[1:]] == ["instances-together-0", "instances-together-1"]


def test_together_a_failed_call_rejects_its_instructions_and_ended_calls_keep_what_is_complete():
    def fails_with(error):
        def answer(prompt):
            raise error

        return answer

    rows = propose(
        FakeTeacher(
            instructions=instructions_reply(TIDES, RIVERS),
            instances=fails_with(CallFailed("request_refused", "said no")),
        ),
        instances="together",
    )
    assert reasons(rows) == ["request_refused", "request_refused"]

    async def screen(draft):
        return Rejection("duplicate_lexical") if draft.instruction == RIVERS else None

    ended = FakeTeacher(instructions=instructions_reply(TIDES, RIVERS), instances=fails_with(CallsEnded("no money")))
    assert reasons(propose(ended, screen, instances="together")) == ["duplicate_lexical"]
    with pytest.raises(CallsEnded):
        propose(ended, instances="together")


def test_together_an_unclear_question_costs_no_instance():
    def judge(prompt):
        clarity = 1 if RIVERS in prompt.user else 5
        return json.dumps(
            {"clarity": clarity, "answerable": True, "harmless": True, "difficulty": 2, "topic": "nature"}
        )

    teacher = FakeTeacher(
        instructions=instructions_reply(TIDES, RIVERS), judge_question=judge, instances=numbered((1, "", "The moon."))
    )
    rows = propose(teacher, instances="together", judging={"question": True})
    assert sorted(map(str, reasons(rows))) == ["None", "unclear_question"]
    assert RIVERS not in teacher.prompts[-1].user


@pytest.mark.parametrize("options", [{"classification": "own_call"}, {"instances": "together"}])
def test_the_variant_with_one_call_has_neither(options):
    with pytest.raises(ValueError, match="in one call"):
        self_instruct.Options(variant="one_call", **options)
