"""Replies in tags: how they are asked for, and how they are read; cut, wrapped, half-valid or arbitrary."""

import json
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, StrictStr

from app.synth.methods.self_instruct import Classification
from app.synth.methods.self_instruct_instances import InputFirst
from app.synth.methods.self_instruct_instructions import InstructionText
from app.synth.prompting.replies import read_items, read_object, read_text
from app.synth.prompting.requests import ONE_TO_FIVE, TEXT, YES_NO, item_schema, list_schema, object_schema
from app.synth.quality.judging import Comparison, QuestionVerdict
from app.synth.reply_forms import describe
from app.synth.types import Prompt, Rejection, Reply

INSTANCES = list_schema("instances", item_schema({"input": TEXT, "output": TEXT}), 3)
VERDICT = object_schema("verdict", {"rationale": TEXT, "clarity": ONE_TO_FIVE, "harmless": YES_NO})
CHOICE = object_schema("choice", {"better": {"type": "string", "enum": ["A", "B", "tie"]}})


class Rated(BaseModel):
    clarity: int
    harmless: bool
    rationale: StrictStr


@pytest.mark.parametrize(
    ("schema", "form", "language", "instruction"),
    [
        (INSTANCES, "json_object", "en", '{"instances": [{"input": "…", "output": "…"}]}'),
        (INSTANCES, "json_schema", "ko", "형식의 JSON 객체 하나로만"),
        (VERDICT, "json_object", "de", '{"rationale": "…", "clarity": 5, "harmless": true}'),
        (CHOICE, "json_object", "en", '"A | B | tie"'),
        (INSTANCES, "tagged", "en", "<item>\n<input>…</input>\n<output>…</output>\n</item>"),
        (VERDICT, "tagged", "ko", "<clarity>1 to 5</clarity>\n<harmless>true or false</harmless>"),
    ],
)
def test_how_to_reply_is_said_from_the_schema(schema, form, language, instruction):
    assert instruction in describe(schema, form, language)


@pytest.mark.parametrize("schema", [INSTANCES, VERDICT, CHOICE])
def test_the_tags_that_are_shown_are_well_formed(schema):
    shape = describe(schema, "tagged", "en").split("\n\n")[1]
    assert [item.tag for item in ElementTree.fromstring(f"<r>{shape}</r>")] == list(schema["properties"])


def test_the_form_stands_at_the_end_of_the_fixed_part():
    prompt = Prompt("s", "p", "You judge.", "this", VERDICT, 0, 9, "t", turns=(("user", "a"), ("assistant", "b")))
    messages = prompt.messages("tagged")
    assert messages[0]["content"].startswith("You judge.\n\n") and "<clarity>" in messages[0]["content"]
    assert [item["content"] for item in messages[1:]] == ["a", "b", "this"]
    plain = Prompt("s", "p", "You answer.", "this", None, 0, 9, "t")
    assert plain.messages()[0]["content"] == "You answer."


@pytest.mark.parametrize(
    ("text", "finish", "items", "reasons"),
    [
        ("<instructions><item>a b</item><item>c d</item></instructions>", "stop", ["a b", "c d"], []),
        ("```xml\n<instructions>\n<item>a b</item>\n</instructions>\n```", "stop", ["a b"], []),
        ("<instructions>\n<item>a <b>bold</b> x < y</item>\n</instructions>", "stop", ["a <b>bold</b> x < y"], []),
        ("<instructions><item>a b</item><item>c", "length", ["a b"], ["cut_off"]),
        ("<instructions><item>a", "length", [], ["cut_off"]),
        ("<instructions></instructions>", "stop", [], []),
        ("<other><item>a b</item></other>", "stop", [], ["malformed_reply"]),
        ("", "stop", [], ["empty_reply"]),
        ("<instructions><item>a b</item></instructions>", "content_filter", [], ["moderated"]),
    ],
)
def test_tagged_items(text, finish, items, reasons):
    parsed_items, faults = read_items(Reply(text, finish), "instructions", InstructionText)
    assert [item.root for item in parsed_items] == items
    assert [fault.reason for fault in faults] == reasons


def test_tagged_items_with_parts():
    text = """<instances>
<item>
<input>2 < 3?</input>
<output>
def f():
    return "<item>"
</output>
</item>
<item><output>no input</output></item>
<item><input>no output</input></item>
</instances>"""
    items, faults = read_items(Reply(text.replace('<item>"', 'item"')), "instances", InputFirst)
    assert [(item.input, item.output) for item in items] == [
        ("2 < 3?", 'def f():\n    return "item"'),
        ("", "no input"),
    ]
    assert [fault.reason for fault in faults] == ["malformed_reply"]


@pytest.mark.parametrize(
    ("text", "model", "values"),
    [
        ("<is_classification>true</is_classification>", Classification, {"is_classification": True}),
        ("<is_classification>아니요</is_classification>", Classification, {"is_classification": False}),
        ("<better> tie </better>", Comparison, {"better": "tie"}),
        (
            "Here:\n<rationale>좋은 답 <3</rationale>\n<clarity>4</clarity>\n<harmless>Yes.</harmless>",
            Rated,
            {"clarity": 4, "harmless": True, "rationale": "좋은 답 <3"},
        ),
    ],
)
def test_tagged_objects(text, model, values):
    assert read_object(Reply(text), model).model_dump() == values


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply("<clarity>9</clarity>"), "malformed_reply"),
        (Reply("<clarity>4", "length"), "cut_off"),
        (Reply("I would say four."), "malformed_reply"),
        (Reply('{"clarity": "4", "answerable": true, "harmless": true, "difficulty": 3}x'), None),
        (Reply("", refusal="No."), "refused"),
    ],
)
def test_objects_that_are_none(reply, reason):
    parsed = read_object(reply, QuestionVerdict)
    assert (parsed.reason if isinstance(parsed, Rejection) else None) == reason


@pytest.mark.parametrize(
    ("reply", "parsed"),
    [
        (Reply("  An answer.\n"), "An answer."),
        (Reply("```python\nprint(1)\n```"), "```python\nprint(1)\n```"),
        (Reply("Half an", "length"), Rejection("cut_off", "Half an")),
        (Reply(""), Rejection("empty_reply")),
        (Reply("x", refusal="No."), Rejection("refused", "No.")),
    ],
)
def test_plain_answers(reply, parsed):
    assert read_text(reply) == parsed


WORDS = st.text(st.characters(exclude_characters="<>\r"), min_size=1, max_size=30).filter(
    lambda text: text.strip() and text == text.strip("\n")
)


@given(st.lists(st.tuples(WORDS, WORDS), max_size=5))
def test_both_forms_give_the_same_items(pairs):
    rows = [{"input": input, "output": output} for input, output in pairs]
    tagged = "".join(f"<item>\n<input>{r['input']}</input>\n<output>{r['output']}</output>\n</item>\n" for r in rows)
    for text in (json.dumps({"instances": rows}), f"<instances>\n{tagged}</instances>"):
        items, faults = read_items(Reply(text), "instances", InputFirst)
        assert [item.model_dump() for item in items] == rows and faults == []


@given(st.lists(WORDS, max_size=5), st.integers(0, 500))
def test_a_tagged_list_cut_anywhere_gives_its_complete_items(texts, at):
    whole = "<instructions>" + "".join(f"<item>{text}</item>" for text in texts) + "</instructions>"
    items, faults = read_items(Reply(whole[:at], "length"), "instructions", InstructionText)
    assert [item.root for item in items] == texts[: len(items)]
    assert len(faults) == (0 if at >= len(whole) else 1)


@given(st.text(alphabet=st.sampled_from('<>/itemnsrucoa \n"{}[]:,가')), st.sampled_from(["stop", "length"]))
def test_arbitrary_text_never_raises(text, finish):
    for start in ("", "<instructions>", '{"instructions": '):
        reply = Reply(start + text, finish)
        items, _ = read_items(reply, "instructions", InstructionText)
        assert all(isinstance(item.root, str) for item in items)
        read_object(reply, Rated)
        read_text(reply)
