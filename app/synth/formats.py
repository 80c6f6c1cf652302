"""Rows as training lines: Alpaca, messages and ShareGPT. One JSON object a line, always one line."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol


class Row(Protocol):
    instruction: str
    input: str
    output: str


def to_alpaca(row: Row) -> dict:
    return {"instruction": row.instruction, "input": row.input, "output": row.output}


def to_messages(row: Row) -> dict:
    return {
        "messages": [
            {"role": "user", "content": user_turn(row)},
            {"role": "assistant", "content": row.output},
        ]
    }


def to_sharegpt(row: Row) -> dict:
    return {
        "conversations": [
            {"from": "human", "value": user_turn(row)},
            {"from": "gpt", "value": row.output},
        ]
    }


FORMS: dict[str, Callable[[Row], dict]] = {
    "alpaca": to_alpaca,
    "messages": to_messages,
    "sharegpt": to_sharegpt,
}


def user_turn(row: Row) -> str:
    """Instruction and input as one turn: a blank line between them when there is an input."""
    return f"{row.instruction}\n\n{row.input}" if row.input else row.instruction


def json_line(value: dict) -> bytes:
    """UTF-8 with the two Unicode line separators escaped, since many readers split on them."""
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode("utf-8") + b"\n"


def write_jsonl(rows: Iterable[Row], path: str | Path, form: str = "alpaca") -> int:
    """Write rows in a form and return how many."""
    count = 0
    with open(path, "wb") as out:
        for row in rows:
            out.write(json_line(FORMS[form](row)))
            count += 1
    return count
