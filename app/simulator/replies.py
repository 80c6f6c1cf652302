"""From a chat request to the content of its reply."""

import json
import re
from dataclasses import dataclass

from app.simulator import chance, tagged
from app.simulator.answers import answer
from app.simulator.families import library
from app.simulator.offers import Offers
from app.simulator.protocol import ChatRequest
from app.simulator.reading import Reading, read
from app.simulator.schemas import Filler

_SHOWN_KEY = re.compile(r'"(\w+)"\s*:\s*(\[|\{|true|false|-?\d|<int|")?')
_ASKS_FOR_JSON = re.compile(r'\{\s*"\w+"\s*:')
_DECLINES = re.compile(r"\bdeclines? harmful\b|해로운 부탁을 (잘 )?거절")
_INSTANCE_KEYS = {"input", "output"}


@dataclass(frozen=True)
class Written:
    content: str
    language: str


class Composer:
    """Content follows from the seed and the request's hash alone."""

    def __init__(self, seed: int, near_duplicates: float):
        self.seed, self.near_duplicates = seed, near_duplicates
        # Parsing the parts takes a moment that no request should wait for.
        for language in ("en", "ko"):
            library(language)

    def compose(self, asked: ChatRequest, key: tuple) -> Written:
        reading = read(asked)
        rng = chance.generator("reply", self.seed, *key)
        offers = Offers(reading, library(reading.language), rng, self.near_duplicates)
        shown = None if asked.response_format else tagged.schema_of(reading.before)
        schema = shown or requested_schema(asked, reading)
        if schema is None:
            return Written(_plain(reading, offers), reading.language)
        filled = Filler(schema, rng, offers.offer, offers.sentence).fill()
        written = tagged.write(filled) if shown else json.dumps(filled, ensure_ascii=False)
        return Written(written, reading.language)


def requested_schema(asked: ChatRequest, reading: Reading) -> dict | None:
    """The given schema; else one made of the keys that the prompt shows when it asks for JSON."""
    form = asked.response_format
    if form and form.type == "json_schema":
        return form.json_schema.schema_
    words = f"{reading.before}\n{reading.outside}"
    if form and form.type == "json_object":
        return _schema_of_keys(words)
    return _schema_of_keys(words) if _ASKS_FOR_JSON.search(words) else None


def _schema_of_keys(words: str) -> dict:
    start = words.find('{"')
    try:
        example, _ = json.JSONDecoder().raw_decode(words, start)
        return _schema_of_example(example)
    except ValueError:
        return _schema_of_shown_keys(words)


def _schema_of_example(value: object) -> dict:
    """The schema of the JSON that a prompt shows; `A | B` is a choice, a number the highest that may be given."""
    if isinstance(value, dict):
        properties = {name: _schema_of_example(part) for name, part in value.items()}
        return {"type": "object", "properties": properties, "required": list(properties)}
    if isinstance(value, list):
        return {"type": "array", "items": _schema_of_example(value[0]) if value else {"type": "string"}}
    if isinstance(value, bool):
        return {"type": "boolean"}
    if isinstance(value, int):
        return {"type": "integer", "minimum": 1, "maximum": max(1, value)}
    if isinstance(value, str) and " | " in value:
        return {"enum": value.split(" | ")}
    return {"type": "string"}


def _schema_of_shown_keys(words: str) -> dict:
    shown = dict(_SHOWN_KEY.findall(words)) or {"answer": ""}
    order = [name for name in shown if name in _INSTANCE_KEYS]
    properties = {}
    for name, start in shown.items():
        if name in _INSTANCE_KEYS and "instances" in shown:
            continue
        properties[name] = _schema_of_key(name, start, order)
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _schema_of_key(name: str, start: str, order: list[str]) -> dict:
    if name == "instances":
        fields = {field: {"type": "string"} for field in order or ["input", "output"]}
        return {"type": "array", "items": {"type": "object", "properties": fields, "required": list(fields)}}
    if name == "better":
        return {"enum": ["A", "B"]}
    if start == "[":
        return {"type": "array", "items": {"type": "string"}}
    if start in ("true", "false") or name.startswith("is_") or name == "equal":
        return {"type": "boolean"}
    if start.startswith("<int") or start.lstrip("-").isdigit():
        return {"type": "integer", "minimum": 1, "maximum": 5}
    return {"type": "string"}


def _plain(reading: Reading, offers: Offers) -> str:
    if reading.demonstrations:
        lines = offers.instructions(reading.asked_count or 5)
        return "\n".join(f"{n}. {line}" for n, line in enumerate(lines, 1))
    if _DECLINES.search(reading.before) and reading.instruction:
        return offers.library.fill("refusal", offers.rng)
    instruction = reading.instruction or " ".join(reading.outside.split()) or reading.user
    return answer(offers.library, instruction, reading.input, offers.rng)
