"""Replies in tags, for prompts that show a template of tags instead of giving a response format."""

import re
from typing import Any
from xml.etree import ElementTree

_TAG_TEMPLATE = re.compile(r"(?:Reply with these tags|다음 태그를 채워)[^\n]*\n\n(.+?)(?:\n\n|\Z)", re.DOTALL)
# The template states a number's bounds in its text: <score>1 to 5</score>.
_BOUNDS = re.compile(r"(\d+) to (\d+)")


def parse_tag_schema(prompt_text: str) -> dict | None:
    """Return the JSON schema of the tags in a prompt's template, or None if the prompt has no readable template."""
    match = _TAG_TEMPLATE.search(prompt_text)
    if match is None:
        return None
    try:
        template = ElementTree.fromstring(f"<reply>{match.group(1)}</reply>")
    except ElementTree.ParseError:
        return None
    return _element_schema(template)


def _element_schema(node: ElementTree.Element) -> dict:
    children = list(node)
    # One <item> stands for a list of any length.
    if [child.tag for child in children] == ["item"]:
        return {"type": "array", "items": _element_schema(children[0])}
    if children:
        properties = {child.tag: _element_schema(child) for child in children}
        return {"type": "object", "properties": properties, "required": list(properties)}
    text = (node.text or "").strip()
    bounds = _BOUNDS.fullmatch(text)
    if bounds:
        return {"type": "integer", "minimum": int(bounds.group(1)), "maximum": int(bounds.group(2))}
    if " | " in text:
        return {"type": "string", "enum": text.split(" | ")}
    return {"type": {"true or false": "boolean", "a number": "integer"}.get(text, "string")}


def render_tags(value: dict[str, Any]) -> str:
    """Render a value as tags: `{"a": [{"b": 1}]}` becomes `<a><item><b>1</b></item></a>`."""
    return "\n".join(_render_element(name, part) for name, part in value.items())


def _render_element(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return f"<{name}>\n{render_tags(value)}\n</{name}>"
    if isinstance(value, list):
        items = "\n".join(_render_element("item", item) for item in value)
        return f"<{name}>\n{items}\n</{name}>"
    return f"<{name}>{str(value).lower() if isinstance(value, bool) else value}</{name}>"
