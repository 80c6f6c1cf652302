"""Values for any JSON schema. What a property means is asked of `offer`; the rest is filled so that it validates."""

import random
import re
from collections.abc import Callable
from typing import Any

NOTHING: Any = object()
Offer = Callable[[str, dict], Any]

_DEEPEST = 6
_BY_FORMAT = {
    "date": "2031-04-17",
    "time": "07:45:00Z",
    "date-time": "2031-04-17T07:45:00Z",
    "email": "reader@example.org",
    "uri": "https://example.org/page",
    "uuid": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    "ipv4": "192.0.2.17",
    "hostname": "example.org",
    "duration": "PT90M",
}
# Tried in turn for a `pattern`, which can't be inverted in general.
_BY_PATTERN = (
    *("a", "A", "0", "12", "123", "1234", "12345", "abc", "ABC", "Abc", "a1", "A1"),
    *("2031-04-17", "07:45", "ab-cd"),
)


class Filler:
    """Fills one schema. `text` gives a sentence where a string means nothing in particular."""

    def __init__(self, schema: dict, rng: random.Random, offer: Offer, text: Callable[[], str]):
        self.root, self.rng, self.offer, self.text = schema, rng, offer, text

    def fill(self) -> Any:
        return self.value(self.root)

    def value(self, schema: Any, name: str = "", depth: int = 0) -> Any:
        schema = self._resolved(schema, depth)
        if "const" in schema:
            return schema["const"]
        if isinstance(schema.get("items"), dict):
            schema = {**schema, "items": self._resolved(schema["items"], depth)}
        offered = self.offer(name, schema)
        if offered is not NOTHING and _fits(schema, offered):
            return offered
        if "enum" in schema:
            return self.rng.choice(schema["enum"])
        kind = _kind(schema)
        return getattr(self, f"_{kind}")(schema, name, depth)

    def _resolved(self, schema: Any, depth: int) -> dict:
        """Without $ref, allOf, anyOf and oneOf: one plain schema. Deep inside, null is preferred."""
        if not isinstance(schema, dict):
            return {}
        for _ in range(16):
            if "$ref" in schema:
                rest = {key: part for key, part in schema.items() if key != "$ref"}
                schema = {**self._referred(schema["$ref"]), **rest}
            elif schema.get("allOf"):
                schema = _merged([{k: v for k, v in schema.items() if k != "allOf"}, *schema["allOf"]])
            elif schema.get("anyOf") or schema.get("oneOf"):
                key = "anyOf" if schema.get("anyOf") else "oneOf"
                rest = {name: part for name, part in schema.items() if name != key}
                schema = _merged([rest, _branch(schema[key], depth)])
            else:
                break
        return schema

    def _referred(self, reference: str) -> dict:
        found: Any = self.root
        for part in reference.removeprefix("#").strip("/").split("/"):
            if part:
                found = found.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, dict) else {}
        return found if isinstance(found, dict) else {}

    def _object(self, schema: dict, _: str, depth: int) -> dict:
        required = schema.get("required", [])
        properties = schema.get("properties", {})
        wanted = [name for name in properties if name in required or depth < _DEEPEST]
        wanted += [name for name in required if name not in properties]
        return {name: self.value(properties.get(name, {}), name, depth + 1) for name in wanted}

    def _array(self, schema: dict, name: str, depth: int) -> list:
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        count = least if depth >= _DEEPEST else max(least, min(3, 3 if most is None else most))
        first = [self.value(part, name, depth + 1) for part in schema.get("prefixItems", [])]
        found: list = first
        for _ in range(8 * count):
            if len(found) >= count:
                break
            item = self.value(schema.get("items", {}), name, depth + 1)
            if not (schema.get("uniqueItems") and item in found):
                found.append(item)
        return found

    def _string(self, schema: dict, _: str, __: int) -> str:
        if "pattern" in schema:
            return _matching(schema["pattern"])
        if schema.get("format") in _BY_FORMAT:
            return _BY_FORMAT[schema["format"]]
        text = self.text()
        while len(text) < schema.get("minLength", 0):
            text += " " + self.text()
        return text[: schema.get("maxLength", len(text))]

    def _integer(self, schema: dict, _: str, __: int) -> int:
        step = schema.get("multipleOf", 1)
        low, high = _bounds(schema, 1)
        first, last = -(-low // step), high // step
        return int(step * self.rng.randint(int(first), int(max(first, last))))

    def _number(self, schema: dict, name: str, depth: int) -> float:
        if "multipleOf" in schema:
            return self._integer(schema, name, depth)
        low, high = _bounds(schema, 0.01)
        return round(self.rng.uniform(low, high), 2) if high - low > 0.05 else (low + high) / 2

    def _boolean(self, *_: object) -> bool:
        return self.rng.random() < 0.5

    def _null(self, *_: object) -> None:
        return None


def _kind(schema: dict) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind:
        return kind
    if "properties" in schema:
        return "object"
    return "array" if "items" in schema else "string"


def _fits(schema: dict, value: Any) -> bool:
    """Whether an offered value keeps the bounds that an offer can break."""
    if "enum" in schema:
        return value in schema["enum"]
    kind = _kind(schema)
    types = {"string": str, "boolean": bool, "array": list, "object": dict, "integer": int, "number": (int, float)}
    if not isinstance(value, types.get(kind, object)) or (kind in ("integer", "number") and isinstance(value, bool)):
        return False
    if kind == "array":
        return schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
    if kind == "string":
        fits = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        return fits and "pattern" not in schema
    return True


def _branch(branches: list, depth: int) -> dict:
    plain = [branch for branch in branches if isinstance(branch, dict)]
    nulls = [branch for branch in plain if branch.get("type") == "null"]
    others = [branch for branch in plain if branch not in nulls]
    return (nulls or others or [{}])[0] if depth >= _DEEPEST else (others or nulls or [{}])[0]


def _merged(schemas: list[dict]) -> dict:
    merged: dict = {}
    for schema in schemas:
        properties = {**merged.get("properties", {}), **schema.get("properties", {})}
        required = [*merged.get("required", []), *schema.get("required", [])]
        merged = {**merged, **schema}
        if properties:
            merged["properties"] = properties
        if required:
            merged["required"] = list(dict.fromkeys(required))
    return merged


def _bounds(schema: dict, step: float) -> tuple[float, float]:
    low = schema.get("minimum", schema["exclusiveMinimum"] + step if "exclusiveMinimum" in schema else None)
    high = schema.get("maximum", schema["exclusiveMaximum"] - step if "exclusiveMaximum" in schema else None)
    if low is None:
        low = 1 if high is None else min(1, high)
    return low, max(low, low + 9 if high is None else high)


def _matching(pattern: str) -> str:
    for text in _BY_PATTERN:
        try:
            if re.search(pattern, text):
                return text
        except re.error:
            break
    return _BY_PATTERN[0]
