"""Reading teachers' replies: tables of cases, and arbitrary text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.synth.replies import read_items, read_object
from app.synth.self_instruct import Classification, InputFirst, InstructionText
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
    found, faults = read_items(Reply(text, finish), "instructions", InstructionText)
    assert [one.root for one in found] == items
    assert [fault.reason for fault in faults] == reasons


def test_one_bad_instance_never_costs_its_neighbours():
    text = json.dumps({"instances": [{"input": "a", "output": "b"}, {"input": "no output"}, {"output": "c"}]})
    found, faults = read_items(Reply(text), "instances", InputFirst)
    assert [(one.input, one.output) for one in found] == [("a", "b"), ("", "c")]
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
    assert [one.root for one in items] == values[: len(items)]
    assert faults or len(items) == len(values)
