"""Rows in the formats of trainers: Alpaca, messages, ShareGPT and DPO pairs, as JSON Lines.

To add a format, write a function under `row_form` (an object for each row) or `pair_form` (an object for each
preference pair). Snapshots, the API's schema and `write_jsonl` read it from FORMS.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

ThoughtPlace = Literal["drop", "first", "template"]


class Row(Protocol):
    """A row to export; `messages` ({role, content} or Turn, of a dialogue), `reasoning` and `thought` are optional."""

    instruction: str
    input: str
    output: str


class PreferencePair(Protocol):
    """The better and the worse answer; `margin` is the difference of their scores, 1.0 the whole scale."""

    kind: str
    chosen: str
    rejected: str
    margin: float


@dataclass(frozen=True)
class ExportForm:
    """A format.

    Attributes:
        to_lines: returns the objects of a row from (row, reasoning, pairs).
        needs_pairs: whether the objects are made of the preference pairs alone.
    """

    to_lines: Callable[[Row, bool, Iterable[PreferencePair]], list[dict]]
    needs_pairs: bool = False


FORMS: dict[str, ExportForm] = {}
RowToLine = Callable[[Row, bool], dict]
PairToLine = Callable[[Row, PreferencePair], dict]


def row_form(name: str) -> Callable[[RowToLine], RowToLine]:
    """Register a function (row, reasoning) -> line as the form `name`."""

    def register(to_line: RowToLine) -> RowToLine:
        FORMS[name] = ExportForm(lambda row, reasoning, pairs: [to_line(row, reasoning)])
        return to_line

    return register


def pair_form(name: str) -> Callable[[PairToLine], PairToLine]:
    """Register a function (row, pair) -> line as the form `name`."""

    def register(to_line: PairToLine) -> PairToLine:
        FORMS[name] = ExportForm(lambda row, reasoning, pairs: [to_line(row, pair) for pair in pairs], needs_pairs=True)
        return to_line

    return register


@row_form("alpaca")
def to_alpaca(row: Row, reasoning: bool = False) -> dict:
    """Return a row in the format of Stanford Alpaca.

    The earlier turns of a dialogue become `history`, pairs of messages.
    """
    turns = _dialogue_turns(row)
    if turns:
        contents = [content for _, content in turns]
        # Alpaca's history has no roles, so messages go in pairs of question and answer.
        history = [contents[n : n + 2] for n in range(0, len(contents) - 2, 2)]
        return {"instruction": contents[-2], "input": "", "output": contents[-1], "history": history}
    return {"instruction": row.instruction, "input": row.input, "output": output_with_reasoning(row, reasoning)}


@row_form("messages")
def to_messages(row: Row, reasoning: bool = False) -> dict:
    """Return a row in the format of chat templates: a list of {role, content}."""
    return {"messages": [{"role": role, "content": content} for role, content in conversation(row, reasoning)]}


@row_form("sharegpt")
def to_sharegpt(row: Row, reasoning: bool = False) -> dict:
    """Return a row in the format of ShareGPT: a list of {from, value}, from `human` and `gpt`."""
    # The names that trainers for ShareGPT expect in the place of chat roles.
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return {
        "conversations": [{"from": names[role], "value": content} for role, content in conversation(row, reasoning)]
    }


@pair_form("dpo")
def to_dpo(row: Row, pair: PreferencePair) -> dict:
    """Return a preference pair in the conversational format of DPO trainers (Rafailov et al. 2023)."""
    return {
        "prompt": [{"role": "user", "content": user_turn(row)}],
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
        "kind": pair.kind,
        "margin": pair.margin,
    }


def conversation(row: Row, reasoning: bool = False) -> list[tuple[str, str]]:
    """Return (role, content) of every turn. A row that is no dialogue has two turns: its instruction and its output."""
    return _dialogue_turns(row) or [("user", user_turn(row)), ("assistant", output_with_reasoning(row, reasoning))]


def output_with_reasoning(row: Row, reasoning: bool) -> str:
    """Return the output, preceded by the chain of thought where `reasoning` asks for it and the row has one."""
    chain_of_thought = getattr(row, "reasoning", "") if reasoning else ""
    return f"{chain_of_thought}\n\n{row.output}" if chain_of_thought else row.output


def _dialogue_turns(row: Row) -> list[tuple[str, str]]:
    return [
        (turn["role"], turn["content"]) if isinstance(turn, dict) else (turn.role, turn.content)
        for turn in getattr(row, "messages", None) or ()
    ]


def user_turn(row: Row) -> str:
    """Return the user's turn: the instruction and, after a blank line, the input if there is one."""
    return f"{row.instruction}\n\n{row.input}" if row.input else row.instruction


def json_line(value: dict) -> bytes:
    """Return one JSON object as a line of UTF-8.

    U+2028 and U+2029 are escaped because many readers split lines on them.
    """
    # Not ASCII: Korean escaped as \uXXXX would take twice the space and be unreadable.
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode("utf-8") + b"\n"


def needs_pairs(forms: Iterable[str]) -> bool:
    """Return whether one of the forms writes preference pairs."""
    return any(FORMS[form].needs_pairs for form in forms)


def to_lines(
    row: Row,
    form: str,
    reasoning: bool = False,
    pairs: Iterable[PreferencePair] = (),
    thought: ThoughtPlace = "drop",
) -> list[dict]:
    """Return the objects of a row in a format of FORMS: one, or in a format of pairs one for each preference pair.

    Args:
        row: a row.
        form: a name from FORMS.
        reasoning: put the chain of thought that a prompt asked for before the output.
        pairs: the row's preference pairs.
        thought: what becomes of the teacher's own thought. `first` writes it before the output, between <think> tags,
            as reasoning models do; `template` writes it as `reasoning_content` of the last message, from which chat
            templates of reasoning models (Qwen3, DeepSeek-R1) write it in their own markup. A preference pair has none.
    """
    text = getattr(row, "thought", "")
    if not text or thought == "drop" or FORMS[form].needs_pairs:
        return FORMS[form].to_lines(row, reasoning, pairs)
    if thought == "first":
        return FORMS[form].to_lines(_RowWithThought(row, reasoning), reasoning, pairs)
    lines = FORMS[form].to_lines(row, reasoning, pairs)
    for line in lines:
        if "messages" in line:
            line["messages"][-1]["reasoning_content"] = text
    return lines


class _RowWithThought:
    """A row whose output, or last message, begins with its thought between tags, before any chain of thought."""

    def __init__(self, row: Row, reasoning: bool):
        self._row = row
        opened = f"<think>\n{row.thought}\n</think>\n\n"
        chain_of_thought = getattr(row, "reasoning", "") if reasoning else ""
        self.reasoning = opened + chain_of_thought if chain_of_thought else ""
        self.output = row.output if chain_of_thought else opened + row.output
        turns = _dialogue_turns(row)
        self.messages = [
            {"role": role, "content": opened + content if number == len(turns) else content}
            for number, (role, content) in enumerate(turns, 1)
        ]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._row, name)


def write_jsonl(
    rows: Iterable[Row],
    path: str | Path,
    form: str = "alpaca",
    reasoning: bool = False,
    thought: ThoughtPlace = "drop",
) -> int:
    """Write rows as JSON Lines.

    Args:
        rows: the rows to write.
        path: the file, which is replaced.
        form: a name from FORMS, such as alpaca, messages, sharegpt or dpo.
        reasoning: put a row's chain of thought before its output.
        thought: what becomes of the teacher's own thought: see `to_lines`.

    Returns:
        How many lines were written.
    """
    # In bytes: text mode would write \r\n on Windows, and json_line is UTF-8 already.
    count = 0
    with open(path, "wb") as out:
        for row in rows:
            for line in to_lines(row, form, reasoning, getattr(row, "pairs", ()), thought):
                out.write(json_line(line))
                count += 1
    return count
