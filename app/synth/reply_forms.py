"""The form of a structured reply: its description in a prompt, and a parser for tagged text.

A teacher that enforces a JSON schema gets the schema. One that can write JSON gets an example of its shape. Any other
is asked for tagged text, which needs no escaping and remains readable after a mistake that would break JSON.
"""

import json
import re
from typing import Any, Literal

ReplyForm = Literal["json_schema", "json_object", "tagged"]

_INSTRUCTIONS = {
    "en": {
        "json": "Reply with one JSON object of the form {shape} and nothing else.",
        "tagged": "Reply with these tags, filled in, and nothing else:\n\n{shape}",
        "again": "Repeat <item> for each one.",
    },
    "ko": {
        "json": "{shape} 형식의 JSON 객체 하나로만 답하세요.",
        "tagged": "다음 태그를 채워 그것으로만 답하세요.\n\n{shape}",
        "again": "<item>은 하나마다 되풀이하세요.",
    },
}
_TAG = re.compile(r"<(/?)([A-Za-z_][\w-]*)>")


def describe(schema: dict, form: ReplyForm, language: str) -> str:
    """Return the instruction, in English or Korean, to reply in a form that fits the JSON schema.

    Args:
        schema: an object schema; of its keywords only type, properties, items, enum and the bounds are read.
        form: what the teacher can do.
        language: a BCP-47 tag; other languages than Korean get the English text.
    """
    instructions = _INSTRUCTIONS.get(language.split("-")[0].lower(), _INSTRUCTIONS["en"])
    # A teacher with a schema sees the shape in the prompt as well, so that both kinds get the same text.
    if form != "tagged":
        return instructions["json"].format(shape=json.dumps(_example(schema), ensure_ascii=False))
    shape = "\n".join(_tags(name, part) for name, part in schema["properties"].items())
    text = instructions["tagged"].format(shape=shape)
    return f"{text}\n\n{instructions['again']}" if "<item>" in shape else text


def _example(schema: dict) -> Any:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    type_name = schema.get("type")
    if type_name == "object":
        return {name: _example(part) for name, part in schema["properties"].items()}
    if type_name == "array":
        return [_example(schema["items"])]
    return {"boolean": True, "integer": schema.get("maximum", 3)}.get(type_name, "…")


def _tags(name: str, schema: dict) -> str:
    type_name = schema.get("type")
    if type_name == "array":
        item = schema["items"]
        inner = _tags("item", item)
        return f"<{name}>\n{inner}\n</{name}>"
    if type_name == "object":
        parts = "\n".join(_tags(key, part) for key, part in schema["properties"].items())
        return f"<{name}>\n{parts}\n</{name}>"
    example = _example(schema)
    if type_name == "boolean":
        example = "true or false"
    if type_name == "integer":
        example = f"{schema.get('minimum', 0)} to {schema['maximum']}" if "maximum" in schema else "a number"
    return f"<{name}>{example}</{name}>"


def read_tagged(text: str, schema_keys: tuple[str, ...]) -> tuple[dict[str, Any], bool] | None:
    """Parse tagged text.

    A list is `<key><item>…</item>…</key>`. An item that contains tags is a dict, any other a text. The text of a leaf
    stays as it is, with `<b>` and code. An unclosed part is left out, except for its complete items.

    Args:
        text: the reply.
        schema_keys: the tags to look for at the top level.

    Returns:
        The parts by key, and whether the text is truncated; None when it contains none of the keys.
    """
    # By hand and not by an XML parser: answers hold code with < and &, which teachers do not escape.
    parts: dict[str, Any] = {}
    truncated = False
    for key in schema_keys:
        opening = text.find(f"<{key}>")
        if opening < 0:
            continue
        start = opening + len(key) + 2
        end = _find_closing_tag(text, key, start)
        inner = text[start:] if end < 0 else text[start:end]
        truncated = truncated or end < 0
        # The parser gets keys and no schema, so <item> tells a list from a text.
        if "<item>" in inner:
            parts[key] = [_parse_item(item) for item in _split_items(inner)]
        elif end >= 0:
            parts[key] = _strip_line_breaks(inner)
    return (parts, truncated) if parts or truncated else None


def _find_closing_tag(text: str, key: str, start: int) -> int:
    """Return the offset of the last closing tag before the next opening of the same name; -1 without one."""
    # A teacher that repeats its reply closes the tag twice.
    next_opening = text.find(f"\n<{key}>", start)
    return text.rfind(f"</{key}>", start, next_opening if next_opening >= 0 else len(text))


def _split_items(inner: str) -> list[str]:
    """Return the complete items of a list, in order."""
    items, position = [], 0
    while (opening := inner.find("<item>", position)) >= 0:
        start = opening + len("<item>")
        next_opening = inner.find("<item>", start)
        # The last one, since code inside an item may contain the tag.
        end = inner.rfind("</item>", start, next_opening if next_opening >= 0 else len(inner))
        if end >= 0:
            items.append(inner[start:end])
        position = next_opening if next_opening >= 0 else len(inner)
    return items


def _parse_item(inner: str) -> dict[str, str] | str:
    """Parse an item: one that begins and ends with a tag is an object of leaves, any other a text."""
    body = inner.strip()
    first = _TAG.match(body)
    if first is None or first.group(1) or not body.endswith(">"):
        return _strip_line_breaks(inner)
    parts: dict[str, str] = {}
    position = 0
    while (opening := _TAG.match(body, position)) and not opening.group(1):
        name = opening.group(2)
        end = _find_end_of_leaf(body, name, opening.end())
        if end < 0:
            return parts or _strip_line_breaks(inner)
        parts[name] = _strip_line_breaks(body[opening.end() : end])
        position = end + len(name) + 3
        while position < len(body) and body[position].isspace():
            position += 1
    return parts


def _find_end_of_leaf(body: str, name: str, start: int) -> int:
    """Return the offset of the closing tag that another part, or the end, follows; -1 without one.

    The text of the leaf may contain the closing tag as well, for instance in code.
    """
    end = body.find(f"</{name}>", start)
    while end >= 0:
        rest = body[end + len(name) + 3 :].lstrip()
        if not rest or _TAG.match(rest):
            return end
        end = body.find(f"</{name}>", end + 1)
    return end


def _strip_line_breaks(text: str) -> str:
    """Return the text without one line break at each end, which belongs to the tags."""
    return text.removeprefix("\n").removesuffix("\n")
