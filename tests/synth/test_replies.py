"""Reading teachers' replies: tables of cases, and arbitrary text."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import RootModel

from app.synth.methods.self_instruct import Classification
from app.synth.methods.self_instruct_instances import InputFirst
from app.synth.methods.self_instruct_instructions import InstructionText
from app.synth.prompting.replies import read_items, read_object
from app.synth.types import Rejection, Reply

WHOLE = '{"instructions": ["a b", "c d"]}'


@pytest.mark.parametrize(
    ("text", "finish", "items", "reasons"),
    [
        (WHOLE, "stop", ["a b", "c d"], []),
        (f"```json\n{WHOLE}\n```", "stop", ["a b", "c d"], []),
        (f"Sure! Here you are: {WHOLE} Enjoy.", "stop", ["a b", "c d"], []),
        ('{"instructions": ["a b", 7, "c d"]}', "stop", ["a b", "c d"], ["malformed_reply"]),
        ('{"instructions": ["a b", "c d", "e f', "length", ["a b", "c d"], ["cut_off"]),
        ('{"instructions": ["a b", "c d"', "length", ["a b", "c d"], ["cut_off"]),
        ('{"instructions": [', "length", [], ["cut_off"]),
        ('{"instructions": "a b"}', "stop", [], ["malformed_reply"]),
        ("I can't help with that.", "stop", [], ["malformed_reply"]),
        ("", "stop", [], ["empty_reply"]),
        (WHOLE, "content_filter", [], ["moderated"]),
        ("<html>", "unreadable", [], ["unreadable_reply"]),
        ("too long", "context_length", [], ["prompt_too_long"]),
    ],
)
def test_items_of_a_list(text, finish, items, reasons):
    parsed_items, faults = read_items(Reply(text, finish), "instructions", InstructionText)
    assert [item.root for item in parsed_items] == items
    assert [fault.reason for fault in faults] == reasons


def test_one_bad_instance_never_costs_its_neighbours():
    text = json.dumps({"instances": [{"input": "a", "output": "b"}, {"input": "no output"}, {"output": "c"}]})
    parsed_items, faults = read_items(Reply(text), "instances", InputFirst)
    assert [(item.input, item.output) for item in parsed_items] == [("a", "b"), ("", "c")]
    assert [fault.reason for fault in faults] == ["malformed_reply"]


def test_a_refusal_is_no_reply():
    _, faults = read_items(Reply(WHOLE, refusal="I won't."), "instructions", InstructionText)
    assert faults == [Rejection("refused", "I won't.")]


def test_an_object():
    assert read_object(Reply('{"is_classification": true}'), Classification).is_classification
    assert read_object(Reply('{"is_classification": "maybe"}'), Classification).reason == "malformed_reply"
    assert read_object(Reply("[" * 100_000), Classification).reason == "malformed_reply"


@given(st.text(), st.sampled_from(["stop", "length"]))
def test_any_text_gives_items_or_a_reason(text, finish):
    items, faults = read_items(Reply(text, finish), "instructions", InstructionText)
    assert items or faults or json.loads(text[text.find("{") :][: text.rfind("}") + 1])["instructions"] == []


@given(st.lists(st.text(), max_size=6), st.integers(min_value=0))
def test_a_list_cut_anywhere_gives_its_complete_items(values, cut):
    whole = json.dumps({"instructions": values}, ensure_ascii=False)
    cut = cut % (len(whole) + 1)
    items, faults = read_items(Reply(whole[:cut], "length"), "instructions", InstructionText)
    assert [item.root for item in items] == values[: len(items)]
    assert faults or len(items) == len(values)


class AnyItem(RootModel[Any]):
    """An item of any shape, so that each item is compared as it was read."""


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def read_any(text: str) -> list[str]:
    """The items that a cut reply gives, each as JSON: 1, 1.0 and true differ."""
    items, _ = read_items(Reply(text, "length"), "items", AnyItem)
    return [json.dumps(item.root) for item in items]


@given(st.lists(JSON_VALUES, max_size=4), st.booleans(), st.sampled_from(["", '"before": {"items": 1}, ']))
def test_json_cut_at_every_place_gives_its_whole_items_and_no_cut_one(values, ascii_only, before):
    parts = [json.dumps(value, ensure_ascii=ascii_only) for value in values]
    expected = [json.dumps(json.loads(part)) for part in parts]
    text, ends = "{" + before + '"items": [', []
    for position, part in enumerate(parts):
        text += (", " if position else "") + part
        # Of a bare number or word only what follows tells that it is whole.
        ends.append(len(text) if part[0] in '"[{' else len(text) + 1)
    text += '], "after": {"text": "more"}}'
    for cut in range(len(text) + 1):
        items = read_any(text[:cut])
        assert items == expected[: len(items)]
        assert len(items) >= sum(end <= cut for end in ends), text[:cut]


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ('{"items": ["a", b, "c"]}', ['"a"']),
        ('{"items": ["a", "b",]}', ['"a"', '"b"']),
        ('{"items": [{"a": 1}, {"a": "x\\q"}, {"a": 2}]}', ['{"a": 1}']),
        ('{"items": ["a", "b\n c", "d"]}', ['"a"']),
        ('{"result": {"items": ["a", "b', ['"a"']),
        ('{"items": ["a"], "other": x}', ['"a"']),
        ('{"items": [' + "9" * 5000 + "]}", []),
        ('{"items": ' + "[" * 100_000, []),
    ],
)
def test_a_list_that_breaks_in_the_middle_gives_what_was_whole_before(text, items):
    assert read_any(text) == items
