"""Parsers of teachers' replies. An invalid item never costs the items beside it.

A reply may be wrapped in a code fence, followed by other text, cut off in the middle of an item, or hold items of the
wrong type. The parsers return every readable item, and a rejection for each other one.
"""

import json
import re
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from app.synth.reply_forms import read_tagged
from app.synth.types import Rejection, Reply

# Teachers often wrap JSON in a code fence, also when the prompt forbids it.
_FENCE = re.compile(r"^\s*```[a-zA-Z]*\s*\n(.*?)(?:\n\s*```.*)?$", re.DOTALL)
_DECODER = json.JSONDecoder()
_BARE_END = re.compile(r"[\w.+-]+$")

Model = TypeVar("Model", bound=BaseModel)


def refusal_of(reply: Reply) -> Rejection | None:
    """Return the rejection of a reply that has nothing to parse (a refusal, a filter, an empty text), or None."""
    if reply.refusal:
        return Rejection("refused", reply.refusal[:200])
    if reply.finish_reason == "content_filter":
        return Rejection("moderated", reply.text[:200] or None)
    if reply.finish_reason == "context_length":
        return Rejection("prompt_too_long", reply.text[:200])
    if reply.finish_reason == "unreadable":
        return Rejection("unreadable_reply", reply.text[:200])
    if not reply.text.strip() and reply.thought:
        # The model spent its tokens on the thought: more tokens, or less thought, would give an answer.
        reason = "cut_in_thought" if reply.finish_reason == "length" else "thought_without_answer"
        return Rejection(reason, reply.thought[-200:])
    if not reply.text.strip():
        return Rejection("empty_reply")
    return None


def read_text(reply: Reply) -> str | Rejection:
    """Return a plain answer without outer white space, or its rejection."""
    refusal = refusal_of(reply)
    if refusal:
        return refusal
    if reply.finish_reason == "length":
        return Rejection("cut_off", reply.text[:200])
    return reply.text.strip()


def read_object(reply: Reply, model: type[Model]) -> Model | Rejection:
    """Parse the reply as one object of the model, or return its rejection."""
    refusal = refusal_of(reply)
    if refusal:
        return refusal
    # JSON first, since a teacher that was asked for tags may answer in JSON, and a text in JSON may hold tags.
    text = _unfenced(reply.text)
    value = _first_object(text)
    if value is None:
        tagged = read_tagged(text, tuple(model.model_fields))
        if tagged is None or tagged[1]:
            return _unreadable(reply)
        value = _convert_texts(tagged[0], model)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        return Rejection("malformed_reply", _first_fault(error))


def read_items(reply: Reply, key: str, item: type[Model]) -> tuple[list[Model], list[Rejection]]:
    """Parse the items of a list in the reply.

    Args:
        reply: the reply of a teacher.
        key: the name of the list.
        item: the model of an item.

    Returns:
        The valid items, and a rejection for each invalid one. A list that breaks off gives its complete items and one
        rejection for all that is missing.
    """
    refusal = refusal_of(reply)
    if refusal:
        return [], [refusal]
    values, complete = _values(_unfenced(reply.text), key, item)
    items, faults = [], [] if complete else [_unreadable(reply)]
    for value in values:
        try:
            items.append(item.model_validate(value))
        except ValidationError as error:
            faults.append(Rejection("malformed_reply", _first_fault(error)))
    return items, faults


def _values(text: str, key: str, item: type[BaseModel]) -> tuple[list, bool]:
    """Return the list under `key`, from JSON or tags, as far as it goes; and whether that is all of it."""
    tagged = read_tagged(text, (key,)) if text.lstrip().startswith("<") else None
    if tagged is not None:
        parts, truncated = tagged
        values = parts.get(key, [])
        values = values if isinstance(values, list) else [values] if values else []
        return [_convert_texts(value, item) for value in values], not truncated
    decoded = _first_object(text)
    if decoded is not None and isinstance(decoded.get(key), list):
        return decoded[key], True
    return _read_whole_items(text, key), False


YES, NO = {"true", "yes", "예", "네"}, {"false", "no", "아니요", "아니오"}


def read_yes_or_no(value: object) -> bool | None:
    """Return the yes or no of a value in a reply, in JSON or as a word of a teacher's; None where it is neither."""
    if isinstance(value, bool):
        return value
    word = value.strip().strip(".").casefold() if isinstance(value, str) else ""
    return word in YES if word in YES | NO else None


def _convert_texts(value: object, model: type[BaseModel]) -> object:
    """Convert texts for boolean and integer fields of the model, since tags contain text alone."""
    if not isinstance(value, dict):
        return value
    converted = dict(value)
    for name, text in value.items():
        field = model.model_fields.get(name)
        if field is None or not isinstance(text, str):
            continue
        word = text.strip().strip(".").casefold()
        if field.annotation is bool and word in YES | NO:
            converted[name] = word in YES
        elif field.annotation is int and word.isdecimal():
            converted[name] = int(word)
        elif (
            field.annotation is str
            and field.metadata
            and any(hasattr(constraint, "pattern") for constraint in field.metadata)
        ):
            converted[name] = text.strip()
    return converted


def _unfenced(text: str) -> str:
    fenced = _FENCE.match(text)
    return fenced.group(1) if fenced else text


def _first_object(text: str) -> dict | None:
    # Teachers introduce an object with a sentence, and explain it with another one after it.
    start = text.find("{")
    if start < 0:
        return None
    try:
        value, _ = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        # RecursionError: a reply of thousands of opening brackets.
        return None
    return value if isinstance(value, dict) else None


def _read_whole_items(text: str, key: str) -> list:
    """Return the items of the first list under `key` that are whole, wherever the text around them breaks off."""
    opening = re.search(rf'"{re.escape(key)}"\s*:\s*\[', text)
    if opening is None:
        return []
    items = text[opening.end() - 1 :]
    try:
        return _DECODER.raw_decode(items)[0]
    except json.JSONDecodeError as error:
        return _whole_items(items[: error.pos])
    except (ValueError, RecursionError):
        return []


def _whole_items(text: str) -> list:
    """Return the whole items of a JSON array that breaks off at the end of `text`.

    A partial parse leaves out a text that is cut, but keeps what it has of an object or an array that is cut.
    """
    # A bare number or word at the very end may be the beginning of a longer one.
    text = _BARE_END.sub("", text).rstrip(" \t\r\n,")
    try:
        values = from_json(text, allow_partial=True)
        if _is_json(f"{text}]"):
            return values
        cut_item_is_text = len(from_json(text, allow_partial="trailing-strings")) > len(values)
    except ValueError:
        return []
    return values if cut_item_is_text else values[:-1]


def _is_json(text: str) -> bool:
    try:
        from_json(text)
    except ValueError:
        return False
    return True


def _unreadable(reply: Reply) -> Rejection:
    reason = "cut_off" if reply.finish_reason == "length" else "malformed_reply"
    return Rejection(reason, reply.text[:200])


def _first_fault(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
