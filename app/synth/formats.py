"""Rows as training lines: Alpaca, messages, ShareGPT and DPO pairs. One JSON object a line, always one line."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol


class Row(Protocol):
    """A row may also have `messages`, the turns of a dialogue ({role, content} or Turn), and a `reasoning`."""

    instruction: str
    input: str
    output: str


class PreferencePair(Protocol):
    """A preference pair of a row: the answer that is better, the one that is worse, and by how much."""

    kind: str
    chosen: str
    rejected: str
    margin: float


def to_alpaca(row: Row, reasoning: bool = False) -> dict:
    """A dialogue's last turn, with the turns before it as `history`, pairs of question and answer."""
    turns = _dialogue_turns(row)
    if turns:
        contents = [content for _, content in turns]
        history = [contents[n : n + 2] for n in range(0, len(contents) - 2, 2)]
        return {"instruction": contents[-2], "input": "", "output": contents[-1], "history": history}
    return {"instruction": row.instruction, "input": row.input, "output": output_with_reasoning(row, reasoning)}


def to_messages(row: Row, reasoning: bool = False) -> dict:
    return {"messages": [{"role": role, "content": content} for role, content in conversation(row, reasoning)]}


def to_sharegpt(row: Row, reasoning: bool = False) -> dict:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return {
        "conversations": [{"from": names[role], "value": content} for role, content in conversation(row, reasoning)]
    }


def to_dpo(row: Row, pair: PreferencePair) -> dict:
    """A preference pair in the conversational form that DPO trainers take (Rafailov et al. 2023)."""
    return {
        "prompt": [{"role": "user", "content": user_turn(row)}],
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
        "kind": pair.kind,
        "margin": pair.margin,
    }


FORMS: dict[str, Callable[..., dict]] = {
    "alpaca": to_alpaca,
    "messages": to_messages,
    "sharegpt": to_sharegpt,
}


def conversation(row: Row, reasoning: bool = False) -> list[tuple[str, str]]:
    """(role, content) of every turn; instruction and answer as the two turns of a row that is no dialogue."""
    return _dialogue_turns(row) or [("user", user_turn(row)), ("assistant", output_with_reasoning(row, reasoning))]


def output_with_reasoning(row: Row, reasoning: bool) -> str:
    """The output; behind the reasoning that led to it where there is one and it is wanted."""
    chain_of_thought = getattr(row, "reasoning", "") if reasoning else ""
    return f"{chain_of_thought}\n\n{row.output}" if chain_of_thought else row.output


def _dialogue_turns(row: Row) -> list[tuple[str, str]]:
    return [
        (turn["role"], turn["content"]) if isinstance(turn, dict) else (turn.role, turn.content)
        for turn in getattr(row, "messages", None) or ()
    ]


def user_turn(row: Row) -> str:
    """Instruction and input as one turn: a blank line between them when there is an input."""
    return f"{row.instruction}\n\n{row.input}" if row.input else row.instruction


def json_line(value: dict) -> bytes:
    """UTF-8 with the two Unicode line separators escaped, since many readers split on them."""
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode("utf-8") + b"\n"


def to_lines(row: Row, form: str, reasoning: bool = False, pairs: Iterable[PreferencePair] = ()) -> list[dict]:
    """A row in a form: one line, or in the form `dpo` a line for each of its preference pairs."""
    if form == "dpo":
        return [to_dpo(row, pair) for pair in pairs]
    return [FORMS[form](row, reasoning)]


def write_jsonl(rows: Iterable[Row], path: str | Path, form: str = "alpaca", reasoning: bool = False) -> int:
    """Write rows in a form (alpaca, messages, sharegpt or dpo) and return how many lines that made."""
    count = 0
    with open(path, "wb") as out:
        for row in rows:
            for line in to_lines(row, form, reasoning, getattr(row, "pairs", ())):
                out.write(json_line(line))
                count += 1
    return count
