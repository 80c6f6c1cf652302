"""Fills any JSON schema with a value. A callable proposes meaningful values; everything else is valid filler."""

import random
import re
from collections.abc import Callable
from typing import Any

NO_PROPOSAL: Any = object()
Propose = Callable[[str, dict], Any]

_MAX_DEPTH = 6
_TEXTS_BY_FORMAT = {
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
# Texts to try for a `pattern`, since a regular expression cannot be inverted in general.
_TEXTS_FOR_PATTERNS = (
    *("a", "A", "0", "12", "123", "1234", "12345", "abc", "ABC", "Abc", "a1", "A1"),
    *("2031-04-17", "07:45", "ab-cd"),
)


class SchemaFiller:
    """Fills one schema.

    `propose(name, schema)` gives a meaningful value for a property or NO_PROPOSAL; `random_sentence()` fills strings.
    """

    def __init__(self, schema: dict, rng: random.Random, propose: Propose, random_sentence: Callable[[], str]):
        self.root, self.rng, self.propose, self.random_sentence = schema, rng, propose, random_sentence

    def fill(self) -> Any:
        """Return a value for the whole schema."""
        return self.value(self.root)

    def value(self, schema: Any, name: str = "", depth: int = 0) -> Any:
        """Return a value for a part of the schema: the constant, the proposal, or filler of the right type."""
        schema = self._resolve(schema, depth)
        if "const" in schema:
            return schema["const"]
        if isinstance(schema.get("items"), dict):
            schema = {**schema, "items": self._resolve(schema["items"], depth)}
        proposal = self.propose(name, schema)
        # A proposal knows the meaning of a property, not its bounds, so it may have to give way.
        if proposal is not NO_PROPOSAL and _fits_schema(schema, proposal):
            return proposal
        if "enum" in schema:
            return self.rng.choice(schema["enum"])
        type_name = _type_of(schema)
        return getattr(self, f"_{type_name}")(schema, name, depth)

    def _resolve(self, schema: Any, depth: int) -> dict:
        """Return the schema as one plain schema, without $ref, allOf, anyOf and oneOf."""
        if not isinstance(schema, dict):
            return {}
        # The bound ends chains of references that lead back to themselves.
        for _ in range(16):
            if "$ref" in schema:
                other_keys = {key: part for key, part in schema.items() if key != "$ref"}
                schema = {**self._follow_reference(schema["$ref"]), **other_keys}
            elif schema.get("allOf"):
                schema = _merge([{k: v for k, v in schema.items() if k != "allOf"}, *schema["allOf"]])
            elif schema.get("anyOf") or schema.get("oneOf"):
                key = "anyOf" if schema.get("anyOf") else "oneOf"
                other_keys = {name: part for name, part in schema.items() if name != key}
                schema = _merge([other_keys, _choose_branch(schema[key], depth)])
            else:
                break
        return schema

    def _follow_reference(self, reference: str) -> dict:
        target: Any = self.root
        for part in reference.removeprefix("#").strip("/").split("/"):
            if part:
                target = target.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(target, dict) else {}
        return target if isinstance(target, dict) else {}

    def _object(self, schema: dict, _: str, depth: int) -> dict:
        required = schema.get("required", [])
        properties = schema.get("properties", {})
        # Optional properties end at some depth, or a recursive schema would never be filled.
        names = [name for name in properties if name in required or depth < _MAX_DEPTH]
        names += [name for name in required if name not in properties]
        return {name: self.value(properties.get(name, {}), name, depth + 1) for name in names}

    def _array(self, schema: dict, name: str, depth: int) -> list:
        min_items, max_items = schema.get("minItems", 0), schema.get("maxItems")
        count = min_items if depth >= _MAX_DEPTH else max(min_items, min(3, 3 if max_items is None else max_items))
        prefix = [self.value(part, name, depth + 1) for part in schema.get("prefixItems", [])]
        items: list = prefix
        # Unique items may run out (there are two booleans), so the attempts are bounded.
        for _ in range(8 * count):
            if len(items) >= count:
                break
            candidate = self.value(schema.get("items", {}), name, depth + 1)
            if not (schema.get("uniqueItems") and candidate in items):
                items.append(candidate)
        return items

    def _string(self, schema: dict, _: str, __: int) -> str:
        if "pattern" in schema:
            return _text_matching(schema["pattern"])
        if schema.get("format") in _TEXTS_BY_FORMAT:
            return _TEXTS_BY_FORMAT[schema["format"]]
        text = self.random_sentence()
        while len(text) < schema.get("minLength", 0):
            text += " " + self.random_sentence()
        return text[: schema.get("maxLength", len(text))]

    def _integer(self, schema: dict, _: str, __: int) -> int:
        step = schema.get("multipleOf", 1)
        low, high = _number_range(schema, 1)
        # Rounded inwards to the multiples of the step.
        first, last = -(-low // step), high // step
        return int(step * self.rng.randint(int(first), int(max(first, last))))

    def _number(self, schema: dict, name: str, depth: int) -> float:
        if "multipleOf" in schema:
            return self._integer(schema, name, depth)
        low, high = _number_range(schema, 0.01)
        return round(self.rng.uniform(low, high), 2) if high - low > 0.05 else (low + high) / 2

    def _boolean(self, *_: object) -> bool:
        return self.rng.random() < 0.5

    def _null(self, *_: object) -> None:
        return None


def _type_of(schema: dict) -> str:
    type_name = schema.get("type")
    if isinstance(type_name, list):
        type_name = next((name for name in type_name if name != "null"), "null")
    if type_name:
        return type_name
    if "properties" in schema:
        return "object"
    return "array" if "items" in schema else "string"


def _fits_schema(schema: dict, value: Any) -> bool:
    """Return whether a proposed value has the type and keeps the bounds of the schema."""
    if "enum" in schema:
        return value in schema["enum"]
    type_name = _type_of(schema)
    types = {"string": str, "boolean": bool, "array": list, "object": dict, "integer": int, "number": (int, float)}
    # In Python a bool is an int; in JSON it is not.
    if not isinstance(value, types.get(type_name, object)) or (
        type_name in ("integer", "number") and isinstance(value, bool)
    ):
        return False
    if type_name == "array":
        return schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
    if type_name == "string":
        fits = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        return fits and "pattern" not in schema
    return True


def _choose_branch(branches: list, depth: int) -> dict:
    # Deep inside, null ends a recursive schema; near the top it would make empty replies.
    plain = [branch for branch in branches if isinstance(branch, dict)]
    nulls = [branch for branch in plain if branch.get("type") == "null"]
    others = [branch for branch in plain if branch not in nulls]
    return (nulls or others or [{}])[0] if depth >= _MAX_DEPTH else (others or nulls or [{}])[0]


def _merge(schemas: list[dict]) -> dict:
    result: dict = {}
    for schema in schemas:
        # Properties and required names add up; any other key of a later schema replaces the earlier one.
        properties = {**result.get("properties", {}), **schema.get("properties", {})}
        required = [*result.get("required", []), *schema.get("required", [])]
        result = {**result, **schema}
        if properties:
            result["properties"] = properties
        if required:
            result["required"] = list(dict.fromkeys(required))
    return result


def _number_range(schema: dict, step: float) -> tuple[float, float]:
    low = schema.get("minimum", schema["exclusiveMinimum"] + step if "exclusiveMinimum" in schema else None)
    high = schema.get("maximum", schema["exclusiveMaximum"] - step if "exclusiveMaximum" in schema else None)
    if low is None:
        low = 1 if high is None else min(1, high)
    return low, max(low, low + 9 if high is None else high)


def _text_matching(pattern: str) -> str:
    for text in _TEXTS_FOR_PATTERNS:
        try:
            if re.search(pattern, text):
                return text
        except re.error:
            break
    return _TEXTS_FOR_PATTERNS[0]
