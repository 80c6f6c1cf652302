"""Evaluation items on their way in: what is looked for of each."""

import json
from collections.abc import Iterable

from fastapi import Request

from app import config
from app.datasets.imports import open_temporary_file
from app.errors import AppError, FieldError
from app.synth.text import clean

# Of an item with an answer it is the question that must not be learnt: the answer alone may stand anywhere.
QUESTIONS, ANSWERS = ("instruction", "question", "input", "text"), ("output", "answer")
MOST_ERRORS = 20


async def uploaded(request: Request) -> list[str]:
    """The items of a JSONL body. Raises 413, 415 or a 422 that names the bad lines."""
    kind = request.headers.get("content-type", "").split(";")[0].strip()
    if kind not in ("application/jsonl", "application/x-ndjson"):
        raise AppError(415, "unsupported-media-type", "Send the items as application/jsonl, one JSON object a line.")
    raw, size, max_size = open_temporary_file(), 0, config.limits().import_body
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_size:
            raise AppError(413, "body-too-large", f"The upload has more than {max_size} bytes. Send it in parts.")
        raw.write(chunk)
    raw.seek(0)
    return texts_of(iter(raw.readline, b""))


def texts_of(lines: Iterable[bytes]) -> list[str]:
    """One text a line; blank lines are passed over."""
    texts, faults = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            texts.append(text_of(json.loads(line)))
        except (ValueError, RecursionError) as error:
            faults.append(FieldError(f"line/{number}", str(error), "invalid"))
        if len(faults) >= MOST_ERRORS:
            break
    if not texts and not faults:
        faults = [FieldError("body", "no items: send one JSON object a line", "empty")]
    if faults:
        first = faults[0]
        raise AppError(422, "invalid-input", f"{first.pointer}: {first.detail}. Nothing was kept.", faults)
    return texts


def text_of(item: object) -> str:
    """The question of an item, in all its parts; its answer where it has nothing else."""
    if not isinstance(item, dict):
        raise ValueError("not a JSON object")
    for names in (QUESTIONS, ANSWERS):
        parts = [clean(item[name]) for name in names if isinstance(item.get(name), str)]
        text = "\n".join(part for part in parts if part)
        if text:
            return text
    raise ValueError(f"no text: give one of {', '.join((*QUESTIONS, *ANSWERS))}")
