"""Repairs of structured replies: each repair is tried after the one before it, and recorded by its name.

Every reply passes through `repair_reply` before a parser reads it (`app.providers.teacher.complete`). Small models and
proxies write JSON that is almost valid. A valid reply is returned unchanged. Any other is read by libraries (`json`
with its lenient mode, the literals of Python, json-repair), and converted to the shape of the schema. A reply that was
cut is not repaired: a parser that closes its brackets would take half an item for a whole one.

The repairs:

- `surrounding_text`: text before or after the object, a code fence among it.
- `raw_line_breaks`: line breaks and tabs inside a string that are not escaped.
- `trailing_commas`, `single_quotes`, `python_literals`, `comments`, `unquoted_keys`, `syntax`: faults of syntax.
- `double_encoded`: the object as a string of JSON.
- `bare_list`: a list where an object with one list was asked for. `other_key`: that list under another name.
- `key_names`: keys in another case, or with spaces. `item_objects`: {"instruction": "..."} where a text was asked for.
- `value_types`: "yes" for true, "4" for 4, 4 or null for a text.
"""

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import json_repair

from app.synth.prompting.replies import NO, YES
from app.synth.types import Reply

_FENCE = re.compile(r"```[a-zA-Z]*[ \t]*\n(.*?)\n?\s*```", re.DOTALL)
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_SINGLE_QUOTED_STRINGS = re.compile(r"'(?:[^'\\]|\\.)*'", re.DOTALL)
# Escapes that Python reads otherwise than JSON.
_FOREIGN_ESCAPES = re.compile(r"\\(?![\\'\"nrtbf])")
_LIST_OF_ITEMS = re.compile(r"\[\s*[\"'{\[]")
_LENIENT_DECODER = json.JSONDecoder(strict=False)
_SINGLE_QUOTES = re.compile(r"[{\[,:]\s*'")
# From the name of a repair to what the text contains outside its strings. json-repair does not say what it has
# repaired, so the first pattern that matches names the repair.
_FAULTS = (
    ("trailing_commas", re.compile(r",\s*[}\]]")),
    ("comments", re.compile(r"(?<!:)//|/\*|^\s*#", re.MULTILINE)),
    ("python_literals", re.compile(r"\b(True|False|None)\b")),
    ("single_quotes", _SINGLE_QUOTES),
    ("unquoted_keys", re.compile(r"[{,]\s*[A-Za-z_]\w*\s*:")),
)


def repair_reply(reply: Reply, schema: dict | None) -> Reply:
    """Return the reply with its text as valid JSON of the schema's shape, where a repair was needed and possible.

    The text as it came stays in `raw_text`, and the names of the repairs in `repairs`. A reply without a schema, one
    that was cut or refused, one of tagged text and one that nothing can repair are returned as they are.

    Args:
        reply: A reply whose thought has been taken out.
        schema: The JSON schema of the reply: an object. Of its keywords type, properties and items are read.
    """
    is_text_of_a_model = reply.finish_reason in ("stop", "tool_calls", "function_call", "eos", "end_turn", "")
    if schema is None or reply.refusal or not is_text_of_a_model or not reply.text.strip():
        return reply
    repairer = _Repairer()
    value = repairer.parse(reply.text)
    if value is None:
        return reply
    value = repairer.fit_to_schema(value, schema)
    if not repairer.repairs or not isinstance(value, dict):
        return reply
    text = json.dumps(value, ensure_ascii=False)
    raw_text = reply.text if reply.raw_text is None else reply.raw_text
    return replace(reply, text=text, raw_text=raw_text, repairs=(*reply.repairs, *repairer.repairs))


@dataclass
class _Repairer:
    """Repairs one reply, and records the names of the repairs in the order in which they were needed."""

    repairs: list[str] = field(default_factory=list)

    def note(self, name: str) -> None:
        if name not in self.repairs:
            self.repairs.append(name)

    def parse(self, text: str) -> object:
        """Return the value of the text; None for tagged text and for a text that holds no whole value."""
        value = _strict(text)
        if value is None:
            body = _body(text)
            if body is None:
                return None
            if body.strip() != text.strip():
                self.note("surrounding_text")
            value = _strict(body)
            value = self._parse_leniently(body) if value is None else value
        if isinstance(value, str) and isinstance(inner := _strict(value), dict | list):
            self.note("double_encoded")
            value = inner
        return value

    def _parse_leniently(self, body: str) -> object:
        try:
            value = json.loads(body, strict=False)
        except (ValueError, RecursionError):
            value = self._parse_as_python(body)
            return self._parse_by_library(body) if value is None else value
        self.note("raw_line_breaks")
        return value

    def _parse_as_python(self, body: str) -> object:
        """Return the value of a text with single quotes that is a literal of Python; None for any other text."""
        # json-repair would end such a text at the first double quote inside of it.
        outside = _SINGLE_QUOTED_STRINGS.sub("''", body)
        if not _SINGLE_QUOTES.search(outside) or _FOREIGN_ESCAPES.search(body):
            return None
        try:
            value = ast.literal_eval(body)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
        if not isinstance(value, dict | list):
            return None
        self._note_fault(_STRINGS.sub('""', outside))
        return value

    def _parse_by_library(self, body: str) -> object:
        outside = _STRINGS.sub('""', body)
        if outside.count("{") + outside.count("[") > outside.count("}") + outside.count("]"):
            # It was cut, whatever its finish reason says.
            return None
        if body.startswith("[") and not _LIST_OF_ITEMS.match(body):
            # Words in brackets, as in prose.
            return None
        try:
            value = json_repair.loads(body, skip_json_loads=True)
        except (ValueError, RecursionError):
            return None
        # The library makes a list of what is no object, such as {this}.
        if not isinstance(value, dict if body.lstrip().startswith("{") else list) or not value:
            return None
        self._note_fault(outside)
        return value

    def _note_fault(self, outside: str) -> None:
        """Note the name of the fault that the text has outside of its strings."""
        self.note(next((name for name, pattern in _FAULTS if pattern.search(outside)), "syntax"))

    def fit_to_schema(self, value: object, schema: dict) -> object:
        """Return the value in the shape of the schema, as far as that needs no guess."""
        properties: dict[str, dict] = schema.get("properties", {})
        only_list = next(iter(properties)) if len(properties) == 1 and _type(properties) == ["array"] else None
        if isinstance(value, list) and only_list:
            self.note("bare_list")
            value = {only_list: value}
        if not isinstance(value, dict):
            return value
        value = self._rename_keys(value, properties)
        if only_list and only_list not in value:
            lists = [part for part in value.values() if isinstance(part, list)]
            if len(lists) == 1:
                self.note("other_key")
                value = {only_list: lists[0]}
        return {name: self._convert(part, properties.get(name, {})) for name, part in value.items()}

    def _rename_keys(self, value: dict, properties: dict) -> dict:
        names = {_plain(name): name for name in properties}
        renamed = {names.get(_plain(key), key): part for key, part in value.items()}
        if list(renamed) != list(value):
            self.note("key_names")
        return renamed

    def _convert(self, value: Any, schema: dict) -> Any:
        expected = schema.get("type")
        if expected == "array" and isinstance(value, list):
            return [self._convert_item(item, schema.get("items", {})) for item in value]
        if expected == "object" and isinstance(value, dict):
            properties = schema.get("properties", {})
            renamed = self._rename_keys(value, properties)
            return {name: self._convert(part, properties.get(name, {})) for name, part in renamed.items()}
        return self._convert_leaf(value, expected)

    def _convert_item(self, item: Any, schema: dict) -> Any:
        if schema.get("type") == "string" and isinstance(item, dict):
            texts = [part for part in item.values() if isinstance(part, str)]
            if len(texts) == 1:
                self.note("item_objects")
                return texts[0]
        return self._convert(item, schema)

    def _convert_leaf(self, value: Any, expected: str | None) -> Any:
        converted = value
        word = value.strip().strip(".").casefold() if isinstance(value, str) else ""
        if expected == "boolean" and word in YES | NO:
            converted = word in YES
        elif expected == "integer" and word.isdecimal():
            converted = int(word)
        elif expected == "integer" and isinstance(value, float) and value.is_integer():
            converted = int(value)
        elif expected == "string" and value is None:
            converted = ""
        elif expected == "string" and isinstance(value, int | float) and not isinstance(value, bool):
            converted = json.dumps(value)
        if converted is not value:
            self.note("value_types")
        return converted


def _strict(text: str) -> object:
    """Return the value of valid JSON; None for any other text, and for null."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _body(text: str) -> str | None:
    """Return the part of the text that holds the value: inside a fence, or from the first bracket to the last."""
    if text.lstrip().startswith("<"):
        return None
    start = _find_bracket(text)
    if start < 0:
        return None
    try:
        _, end = _LENIENT_DECODER.raw_decode(text, start)
        return text[start:end]
    except (ValueError, RecursionError):
        pass
    fenced = _FENCE.search(text)
    # A fence behind the bracket stands in a string: an answer with code in it.
    body = fenced.group(1) if fenced and fenced.start() < start and _find_bracket(fenced.group(1)) >= 0 else text
    start = _find_bracket(body)
    end = body.rfind("}" if body[start] == "{" else "]")
    if end < start or '"' in body[end:]:
        return None
    return body[start : end + 1]


def _find_bracket(text: str) -> int:
    """Return the offset of the first bracket of an object or a list; -1 without one."""
    return min((start for start in (text.find("{"), text.find("[")) if start >= 0), default=-1)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", str(name)).casefold()


def _type(properties: dict[str, dict]) -> Sequence[str | None]:
    return [part.get("type") for part in properties.values()]
