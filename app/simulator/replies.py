"""Composes the content of a reply to a chat request."""

import json
import re
from dataclasses import dataclass

from app.simulator import seeded_random, tagged
from app.simulator.answers import generate_answer
from app.simulator.families import load_library
from app.simulator.prompt_parser import PromptParser, parse_prompt
from app.simulator.protocol import ChatRequest
from app.simulator.response_fields import ResponseFields
from app.simulator.schema_filler import SchemaFiller

_EXAMPLE_KEY = re.compile(r'"(\w+)"\s*:\s*(\[|\{|true|false|-?\d|<int|")?')
_ASKS_FOR_JSON = re.compile(r'\{\s*"\w+"\s*:')
_DECLINES = re.compile(r"\bdeclines? harmful\b|해로운 부탁을 (잘 )?거절")
_INSTANCE_KEYS = {"input", "output"}


@dataclass(frozen=True)
class ComposedReply:
    """The content of a reply and its language ("en" or "ko")."""

    content: str
    language: str


class Composer:
    """Composes replies that depend on the seed and the key alone, so that the same request gets the same reply."""

    def __init__(self, seed: int, near_duplicates: float):
        self.seed, self.near_duplicates = seed, near_duplicates
        # The parts are read in advance: the first request would have to wait for it.
        for language in ("en", "ko"):
            load_library(language)

    def compose(self, request: ChatRequest, key: tuple) -> ComposedReply:
        """Return a reply to the request. `key` is the request's hash and the index of the choice."""
        prompt = parse_prompt(request)
        rng = seeded_random.make_generator("reply", self.seed, *key)
        response_fields = ResponseFields(prompt, load_library(prompt.language), rng, self.near_duplicates)
        tag_schema = None if request.response_format else tagged.parse_tag_schema(prompt.preceding_text)
        schema = tag_schema or requested_schema(request, prompt)
        if schema is None:
            return ComposedReply(_plain_text(prompt, response_fields), prompt.language)
        value = SchemaFiller(schema, rng, response_fields.propose, response_fields.random_sentence).fill()
        written = tagged.render_tags(value) if tag_schema else json.dumps(value, ensure_ascii=False)
        return ComposedReply(written, prompt.language)


def requested_schema(request: ChatRequest, prompt: PromptParser) -> dict | None:
    """Return the schema of the response format, else a schema of the keys in the prompt's example of JSON, or None."""
    response_format = request.response_format
    if response_format and response_format.type == "json_schema":
        return response_format.json_schema.schema_
    text = f"{prompt.preceding_text}\n{prompt.untagged_text}"
    if response_format and response_format.type == "json_object":
        return _schema_of_keys(text)
    return _schema_of_keys(text) if _ASKS_FOR_JSON.search(text) else None


def _schema_of_keys(text: str) -> dict:
    start = text.find('{"')
    try:
        example, _ = json.JSONDecoder().raw_decode(text, start)
        return _schema_of_example(example)
    except ValueError:
        # Prompts abbreviate their examples ("…"), and such an example is no valid JSON.
        return _schema_of_example_keys(text)


def _schema_of_example(value: object) -> dict:
    """Return the schema of an example value: `A | B` is a choice, and a number is the highest value allowed."""
    if isinstance(value, dict):
        properties = {name: _schema_of_example(part) for name, part in value.items()}
        return {"type": "object", "properties": properties, "required": list(properties)}
    if isinstance(value, list):
        return {"type": "array", "items": _schema_of_example(value[0]) if value else {"type": "string"}}
    # Before int: in Python a bool is an int.
    if isinstance(value, bool):
        return {"type": "boolean"}
    if isinstance(value, int):
        return {"type": "integer", "minimum": 1, "maximum": max(1, value)}
    if isinstance(value, str) and " | " in value:
        return {"enum": value.split(" | ")}
    return {"type": "string"}


def _schema_of_example_keys(text: str) -> dict:
    start_by_name = dict(_EXAMPLE_KEY.findall(text)) or {"answer": ""}
    instance_fields = [name for name in start_by_name if name in _INSTANCE_KEYS]
    properties = {}
    for name, start in start_by_name.items():
        if name in _INSTANCE_KEYS and "instances" in start_by_name:
            continue
        properties[name] = _schema_of_key(name, start, instance_fields)
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _schema_of_key(name: str, start: str, instance_fields: list[str]) -> dict:
    if name == "instances":
        properties = {field: {"type": "string"} for field in instance_fields or ["input", "output"]}
        return {"type": "array", "items": {"type": "object", "properties": properties, "required": list(properties)}}
    if name == "better":
        return {"enum": ["A", "B"]}
    if start == "[":
        return {"type": "array", "items": {"type": "string"}}
    if start in ("true", "false") or name.startswith("is_") or name == "equal":
        return {"type": "boolean"}
    if start.startswith("<int") or start.lstrip("-").isdigit():
        return {"type": "integer", "minimum": 1, "maximum": 5}
    return {"type": "string"}


def _plain_text(prompt: PromptParser, response_fields: ResponseFields) -> str:
    if prompt.demonstrations:
        lines = response_fields.new_instructions(prompt.requested_count or 5)
        return "\n".join(f"{n}. {line}" for n, line in enumerate(lines, 1))
    if _DECLINES.search(prompt.preceding_text) and prompt.instruction:
        return response_fields.library.fill("refusal", response_fields.rng)
    instruction = prompt.instruction or " ".join(prompt.untagged_text.split()) or prompt.user_message
    return generate_answer(response_fields.library, instruction, prompt.input, response_fields.rng)
