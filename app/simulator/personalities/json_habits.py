"""JSON as small models and servers without a grammar write it."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass

from app.simulator.personalities.personality import Personality, WrittenReply


@dataclass(frozen=True)
class _Style:
    """How JSON is written. The defaults write valid JSON over several lines."""

    quote: str = '"'
    trailing_commas: bool = False
    quoted_keys: bool = True
    raw_line_breaks: bool = False
    comment: str = ""

    def write(self, value: object, depth: int = 1) -> str:
        """Return the text of the value."""
        if isinstance(value, dict):
            lines = [f"{self._key(name)}: {self.write(part, depth + 1)}" for name, part in value.items()]
            return self._join("{", lines, "}", depth)
        if isinstance(value, list):
            return self._join("[", [self.write(part, depth + 1) for part in value], "]", depth)
        return self._string(value) if isinstance(value, str) else json.dumps(value)

    def _join(self, opening: str, lines: list[str], closing: str, depth: int) -> str:
        indent = "\n" + "  " * depth
        end = "," if self.trailing_commas and lines else ""
        return f"{opening}{self.comment}{indent}{f',{indent}'.join(lines)}{end}\n{'  ' * (depth - 1)}{closing}"

    def _key(self, name: str) -> str:
        return self._string(name) if self.quoted_keys else name

    def _string(self, text: str) -> str:
        inner = json.dumps(text, ensure_ascii=False)[1:-1]
        if self.raw_line_breaks:
            return f'"{inner}"'.replace(". ", ".\n").replace("\\n", "\n")
        return f'"{inner}"' if self.quote == '"' else "'" + inner.replace('\\"', '"').replace("'", "\\'") + "'"


def _on_text(change: Callable[[str], str]) -> Callable:
    def write(reply: WrittenReply, rng: random.Random) -> WrittenReply:
        return reply.with_text(change(reply.text)) if _parse(reply.text) is not None else reply

    return write


def _on_value(change: Callable[[dict], object], style: _Style | None = None) -> Callable:
    """Return a step that changes the value of a reply in JSON; other replies stay as they are."""

    def write(reply: WrittenReply, rng: random.Random) -> WrittenReply:
        value = _parse(reply.text)
        if value is None:
            return reply
        changed = change(value)
        return reply.with_text(style.write(changed) if style else json.dumps(changed, ensure_ascii=False))

    return write


def _parse(text: str) -> dict | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _same(value: dict) -> dict:
    return value


def _only_list(value: dict) -> list | None:
    (first, *others) = value.values()
    return first if isinstance(first, list) and not others else None


def _bare_list(value: dict) -> object:
    return value if _only_list(value) is None else _only_list(value)


def _rename_list(value: dict) -> object:
    return value if _only_list(value) is None else {"results": _only_list(value)}


def _objects_for_texts(value: dict) -> dict:
    return {
        name: [{"text": item} for item in part]
        if isinstance(part, list) and all(isinstance(item, str) for item in part)
        else part
        for name, part in value.items()
    }


def _title_keys(value: object) -> object:
    if isinstance(value, dict):
        return {name.replace("_", " ").title(): _title_keys(part) for name, part in value.items()}
    return [_title_keys(part) for part in value] if isinstance(value, list) else value


def _texts_for_values(value: object) -> object:
    if isinstance(value, dict):
        return {name: _texts_for_values(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_texts_for_values(part) for part in value]
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, int) else value


def _python_literals(text: str) -> str:
    value = _parse(text)
    # A model that writes Python adds such fields, too.
    return json.dumps(value, ensure_ascii=False)[:-1] + ', "truncated": False, "error": None}'


def _prose(value: dict) -> str:
    lines = "\n".join(f"- {text}" for text in _texts_of(value))
    return f"Of course! Here is what I came up with:\n\n{lines}\n\nTell me if you need more."


def _texts_of(value: object) -> list[str]:
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        return [text for part in parts for text in _texts_of(part)]
    return [str(value)]


def _write_prose(reply: WrittenReply, rng: random.Random) -> WrittenReply:
    value = _parse(reply.text)
    return reply if value is None else reply.with_text(_prose(value))


_SMALL = "small models behind servers without a grammar"

PERSONALITIES = (
    Personality("code_fence", "almost every model", write=_on_text(lambda text: f"```json\n{text}\n```")),
    Personality(
        "chatter",
        "Llama, Gemma and other chat models",
        write=_on_text(lambda text: f"Sure! Here is the JSON:\n\n{text}\n\nLet me know if you need anything else."),
    ),
    Personality("trailing_commas", _SMALL, write=_on_value(_same, _Style(trailing_commas=True))),
    Personality("single_quotes", _SMALL, write=_on_value(_same, _Style(quote="'"))),
    Personality("raw_line_breaks", "small models, Mistral 7B", write=_on_value(_same, _Style(raw_line_breaks=True))),
    Personality("python_literals", _SMALL, write=_on_text(_python_literals)),
    Personality("comments", "code models", write=_on_value(_same, _Style(comment=" // as requested"))),
    Personality("unquoted_keys", "code models", write=_on_value(_same, _Style(quoted_keys=False))),
    Personality("bare_list", _SMALL, write=_on_value(_bare_list)),
    Personality("other_key", "models behind response_format json_object", write=_on_value(_rename_list)),
    Personality("key_case", "models behind response_format json_object", write=_on_value(_title_keys)),
    Personality("objects_for_texts", "models behind response_format json_object", write=_on_value(_objects_for_texts)),
    Personality("texts_for_values", _SMALL, write=_on_value(_texts_for_values)),
    Personality(
        "double_encoded",
        "proxies that encode the text once more",
        write=_on_text(lambda text: json.dumps(text, ensure_ascii=False)),
    ),
    Personality("ignores_json_schema", "servers that accept response_format and do nothing", write=_write_prose),
)
