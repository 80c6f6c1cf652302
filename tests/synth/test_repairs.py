"""The habits of small models and proxies in structured replies: each is read, and its repair has a name."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import RootModel

from app.synth.prompting.repairs import repair_reply
from app.synth.prompting.replies import read_items
from app.synth.prompting.requests import ONE_TO_FIVE, TEXT, YES_NO, item_schema, list_schema, object_schema
from app.synth.types import Reply


class _Text(RootModel[str]):
    pass


INSTRUCTIONS = list_schema("instructions", TEXT, 8)
INSTANCES = list_schema("instances", item_schema({"input": TEXT, "output": TEXT}), 8)
VERDICT = object_schema("verdict", {"rationale": TEXT, "faithful": YES_NO, "score": ONE_TO_FIVE})
WHOLE = {"instructions": ["Name it.", "Sort it."]}

HABITS = {
    "fence": (INSTRUCTIONS, '```json\n{"instructions": ["Name it.", "Sort it."]}\n```', WHOLE, ["surrounding_text"]),
    "chatter": (INSTRUCTIONS, 'Sure!\n{"instructions": ["Name it.", "Sort it."]}\nDone.', WHOLE, ["surrounding_text"]),
    "trailing comma": (INSTRUCTIONS, '{"instructions": ["Name it.", "Sort it.",],}', WHOLE, ["trailing_commas"]),
    "single quotes": (INSTRUCTIONS, "{'instructions': ['Name it.', 'Sort it.']}", WHOLE, ["single_quotes"]),
    "unquoted key": (INSTRUCTIONS, '{instructions: ["Name it.", "Sort it."]}', WHOLE, ["unquoted_keys"]),
    "comment": (INSTRUCTIONS, '{"instructions": ["Name it.", "Sort it."] /* two */}', WHOLE, ["comments"]),
    "missing comma": (INSTRUCTIONS, '{"instructions": ["Name it." "Sort it."]}', WHOLE, ["syntax"]),
    "bare list": (INSTRUCTIONS, '["Name it.", "Sort it."]', WHOLE, ["bare_list"]),
    "other key": (INSTRUCTIONS, '{"tasks": ["Name it.", "Sort it."]}', WHOLE, ["other_key"]),
    "key in another case": (INSTRUCTIONS, '{"Instructions": ["Name it.", "Sort it."]}', WHOLE, ["key_names"]),
    "objects for texts": (
        *(INSTRUCTIONS, '{"instructions": [{"instruction": "Name it."}, {"instruction": "Sort it."}]}', WHOLE),
        ["item_objects"],
    ),
    "encoded twice": (INSTRUCTIONS, json.dumps(json.dumps(WHOLE)), WHOLE, ["double_encoded"]),
    "raw line break": (
        *(INSTANCES, '{"instances": [{"input": "", "output": "a\n\tb"}]}'),
        *({"instances": [{"input": "", "output": "a\n\tb"}]}, ["raw_line_breaks"]),
    ),
    "numbers and null for texts": (
        *(INSTANCES, '{"instances": [{"input": null, "output": 4}]}'),
        *({"instances": [{"input": "", "output": "4"}]}, ["value_types"]),
    ),
    "texts for a verdict": (
        *(VERDICT, '{"rationale": "ok", "faithful": "Yes", "score": "4"}'),
        *({"rationale": "ok", "faithful": True, "score": 4}, ["value_types"]),
    ),
    "python": (
        *(VERDICT, '{"rationale": "ok", "faithful": True, "score": 4}'),
        *({"rationale": "ok", "faithful": True, "score": 4}, ["python_literals"]),
    ),
    "single quotes around JSON": (
        *(INSTRUCTIONS, """{'instructions': ['{"name": "Ada"}', 'It\\'s "new".',]}"""),
        *({"instructions": ['{"name": "Ada"}', 'It\'s "new".']}, ["trailing_commas"]),
    ),
    "fence around a fence": (
        *(INSTRUCTIONS, '```json\n{"instructions": ["```python\\nx = {}\\n```", "Sort it."]}\n```'),
        *({"instructions": ["```python\nx = {}\n```", "Sort it."]}, ["surrounding_text"]),
    ),
    "raw line breaks in a fence": (
        *(INSTRUCTIONS, '{"instructions": ["```python\nx = [1]\n```", "Sort it."]}'),
        *({"instructions": ["```python\nx = [1]\n```", "Sort it."]}, ["raw_line_breaks"]),
    ),
    "several": (
        *(INSTRUCTIONS, "```\n['Name it.', 'Sort it.',]\n```", WHOLE),
        ["surrounding_text", "trailing_commas", "bare_list"],
    ),
}


@pytest.mark.parametrize(("schema", "text", "value", "repairs"), HABITS.values(), ids=HABITS)
def test_a_habit_is_read_and_its_repair_is_named(schema, text, value, repairs):
    repaired = repair_reply(Reply(text), schema)
    assert json.loads(repaired.text) == value
    assert (list(repaired.repairs), repaired.raw_text) == (repairs, text)
    assert repair_reply(repaired, schema) == repaired


@pytest.mark.parametrize(
    "reply",
    [
        Reply(json.dumps(WHOLE)),
        Reply('{"instructions": ["Name it.", "Sor', finish_reason="length"),
        Reply('{"instructions": ["Name it.", "Sor'),
        Reply('{"instructions": ["Name it.", "Sort it."'),
        Reply("<instructions>\n<item>Name it.</item>\n</instructions>"),
        Reply("I can't help with that."),
        Reply("I can't help with {that}."),
        Reply("Here are two ideas: name it [at first], then sort it."),
        Reply(""),
        Reply('{"instructions": ["a",]}', refusal="no"),
    ],
)
def test_what_is_valid_cut_or_hopeless_stays_as_it_came(reply):
    assert repair_reply(reply, INSTRUCTIONS) == reply


def test_a_plain_text_is_never_repaired():
    reply = Reply("{'a': 1,}")
    assert repair_reply(reply, None) == reply


TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30)


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_any_valid_reply_passes_untouched(texts):
    reply = Reply(json.dumps({"instructions": texts}))
    assert repair_reply(reply, INSTRUCTIONS) == reply


@given(st.lists(TEXTS, min_size=1, max_size=4), st.integers(min_value=1, max_value=60))
def test_a_reply_that_was_cut_gives_no_item_that_the_teacher_did_not_finish(texts, cut):
    whole = json.dumps({"instructions": texts}, ensure_ascii=False)
    reply = repair_reply(Reply(whole[: max(1, len(whole) - cut)]), INSTRUCTIONS)
    items, _ = read_items(reply, "instructions", _Text)
    assert [item.root for item in items] == texts[: len(items)]


@given(st.text(st.sampled_from("{}[]\"',:ab\n`<>/\\ "), max_size=40))
def test_any_text_is_repaired_to_valid_json_or_left(text):
    repaired = repair_reply(Reply(text), INSTRUCTIONS)
    assert repaired.text == text or isinstance(json.loads(repaired.text), dict)
