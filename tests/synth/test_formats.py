"""Forms and splits."""

import json
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.synth.export.formats import json_line, to_lines, write_jsonl
from app.synth.export.splits import assign_splits


@dataclass
class Row:
    instruction: str
    input: str
    output: str


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("alpaca", {"instruction": "Add", "input": "1 1", "output": "2"}),
        (
            "messages",
            {"messages": [{"role": "user", "content": "Add\n\n1 1"}, {"role": "assistant", "content": "2"}]},
        ),
        ("sharegpt", {"conversations": [{"from": "human", "value": "Add\n\n1 1"}, {"from": "gpt", "value": "2"}]}),
    ],
)
def test_forms(form, line):
    assert to_lines(Row("Add", "1 1", "2"), form) == [line]


def test_without_input_the_turn_is_the_instruction():
    assert to_lines(Row("Add", "", "2"), "messages")[0]["messages"][0]["content"] == "Add"


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_line_is_one_line_and_reads_back(text):
    line = json_line({"instruction": text})
    assert len(line.decode("utf-8").splitlines()) <= 1 + text.count("\x85") + text.count("\x1c")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {"instruction": text}


def test_write_jsonl(tmp_path):
    path = tmp_path / "rows.jsonl"
    assert write_jsonl([Row("가", "", "나"), Row("b", "", "c")], path) == 2
    assert json.loads(path.read_text("utf-8").splitlines()[0]) == {"instruction": "가", "input": "", "output": "나"}


@given(
    st.lists(st.text(min_size=1, max_size=5), max_size=60),
    st.floats(0, 0.4),
    st.floats(0, 0.4),
    st.integers(0, 3),
)
def test_splits_cover_every_family_once_and_do_not_depend_on_order(families, validation, test, seed):
    shares = {"train": 1 - validation - test, "validation": validation, "test": test}
    split_of = assign_splits(families, shares, seed)
    assert set(split_of) == set(families)
    assert split_of == assign_splits(list(reversed(families)), shares, seed)
    if families:
        assert "train" in split_of.values()


def test_split_sizes_are_exact():
    split_of = list(
        assign_splits([str(n) for n in range(200)], {"train": 0.9, "validation": 0.05, "test": 0.05}, 0).values()
    )
    assert (split_of.count("train"), split_of.count("validation"), split_of.count("test")) == (180, 10, 10)


@dataclass
class ThinkingRow:
    instruction: str = "Is 4 even?"
    input: str = ""
    output: str = "Yes."
    thought: str = "4 = 2 * 2."
    messages: tuple = ()
    reasoning: str = ""


def test_a_thought_comes_before_a_chain_of_thought():
    row = ThinkingRow(reasoning="It ends with 4.")
    output = to_lines(row, "alpaca", reasoning=True, thought="first")[0]["output"]
    assert output == "<think>\n4 = 2 * 2.\n</think>\n\nIt ends with 4.\n\nYes."
    assert to_lines(row, "alpaca", thought="first")[0]["output"] == "<think>\n4 = 2 * 2.\n</think>\n\nYes."


def test_a_thought_is_left_out_put_first_or_handed_to_the_template():
    row = ThinkingRow()
    assert to_lines(row, "alpaca") == [{"instruction": row.instruction, "input": "", "output": "Yes."}]
    first = "<think>\n4 = 2 * 2.\n</think>\n\nYes."
    assert to_lines(row, "alpaca", thought="first")[0]["output"] == first
    assert to_lines(row, "sharegpt", thought="first")[0]["conversations"][-1]["value"] == first
    (line,) = to_lines(row, "messages", thought="template")
    assert line["messages"][-1] == {"role": "assistant", "content": "Yes.", "reasoning_content": "4 = 2 * 2."}
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}] * 2
    dialogue = to_lines(replace(row, messages=turns), "messages", thought="first")[0]["messages"]
    assert [turn["content"] for turn in dialogue[:3]] == ["Hi", "Hello", "Hi"]
    assert dialogue[-1]["content"] == "<think>\n4 = 2 * 2.\n</think>\n\nHello"
