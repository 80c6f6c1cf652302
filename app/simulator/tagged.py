"""Replies in tags, for prompts that show which tags they want and give no response format."""

import re
from typing import Any
from xml.etree import ElementTree

_ASKED = re.compile(r"(?:Reply with these tags|다음 태그를 채워)[^\n]*\n\n(.+?)(?:\n\n|\Z)", re.DOTALL)
_BOUNDS = re.compile(r"(\d+) to (\d+)")


def schema_of(words: str) -> dict | None:
    """The schema of the tags that a prompt shows, or None when it shows none."""
    found = _ASKED.search(words)
    if found is None:
        return None
    try:
        shape = ElementTree.fromstring(f"<reply>{found.group(1)}</reply>")
    except ElementTree.ParseError:
        return None
    return _schema(shape)


def _schema(node: ElementTree.Element) -> dict:
    children = list(node)
    if [child.tag for child in children] == ["item"]:
        return {"type": "array", "items": _schema(children[0])}
    if children:
        properties = {child.tag: _schema(child) for child in children}
        return {"type": "object", "properties": properties, "required": list(properties)}
    text = (node.text or "").strip()
    bounds = _BOUNDS.fullmatch(text)
    if bounds:
        return {"type": "integer", "minimum": int(bounds.group(1)), "maximum": int(bounds.group(2))}
    if " | " in text:
        return {"type": "string", "enum": text.split(" | ")}
    return {"type": {"true or false": "boolean", "a number": "integer"}.get(text, "string")}


def write(value: dict[str, Any]) -> str:
    """`{"a": [{"b": 1}]}` as `<a><item><b>1</b></item></a>`."""
    return "\n".join(_element(name, part) for name, part in value.items())


def _element(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return f"<{name}>\n{write(value)}\n</{name}>"
    if isinstance(value, list):
        items = "\n".join(_element("item", one) for one in value)
        return f"<{name}>\n{items}\n</{name}>"
    return f"<{name}>{str(value).lower() if isinstance(value, bool) else value}</{name}>"
