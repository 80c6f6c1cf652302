"""The upload of an evaluation set: which text of each item is searched for in rows."""

import json
from collections.abc import Iterable

from fastapi import Request

from app import config
from app.datasets.imports import open_temporary_file
from app.errors import AppError, FieldError
from app.synth.text import clean

# The question of an item must not be learnt. Its answer may be short, such as a number, and many rows contain it.
QUESTION_FIELDS, ANSWER_FIELDS = ("instruction", "question", "input", "text"), ("output", "answer")
# A file in a wrong format has an error in every line, and the first ones say what is wrong.
MAX_ERRORS = 20


async def read_upload(request: Request) -> list[str]:
    """Return the texts of the items in a JSONL body.

    Args:
        request: the request, whose body is not read yet.

    Raises:
        AppError: 415 for another media type, 413 above the limit of bytes, or a 422 that names the bad lines.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip()
    if kind not in ("application/jsonl", "application/x-ndjson"):
        raise AppError(415, "unsupported-media-type", "Send the items as application/jsonl, one JSON object a line.")
    raw, size, max_size = open_temporary_file(), 0, config.limits().import_body
    async for chunk in request.stream():
        # Counted here: the Content-Length of a request may be missing or wrong.
        size += len(chunk)
        if size > max_size:
            raise AppError(413, "body-too-large", f"The upload has more than {max_size} bytes. Send it in parts.")
        raw.write(chunk)
    raw.seek(0)
    return parse_lines(iter(raw.readline, b""))


def parse_lines(lines: Iterable[bytes]) -> list[str]:
    """Return the text of each line's item. Blank lines are skipped.

    Args:
        lines: the lines of the upload, each a JSON object in UTF-8.

    Raises:
        AppError: A 422 that names up to 20 bad lines, or says that there are no items.
    """
    texts, faults = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            texts.append(extract_text(json.loads(line)))
        # A RecursionError comes from JSON that is nested too deeply.
        except (ValueError, RecursionError) as error:
            faults.append(FieldError(f"line/{number}", str(error), "invalid"))
        if len(faults) >= MAX_ERRORS:
            break
    if not texts and not faults:
        faults = [FieldError("body", "no items: send one JSON object a line", "empty")]
    if faults:
        first = faults[0]
        raise AppError(422, "invalid-input", f"{first.pointer}: {first.detail}. Nothing was kept.", faults)
    return texts


def extract_text(item: object) -> str:
    """Return the text of an item to search for: all parts of its question, or its answer if it has no question.

    Args:
        item: one parsed line of the upload.

    Raises:
        ValueError: The item is no JSON object, or has no text. The message is for the user.
    """
    if not isinstance(item, dict):
        raise ValueError("not a JSON object")
    for names in (QUESTION_FIELDS, ANSWER_FIELDS):
        parts = [clean(item[name]) for name in names if isinstance(item.get(name), str)]
        text = "\n".join(part for part in parts if part)
        if text:
            return text
    raise ValueError(f"no text: give one of {', '.join((*QUESTION_FIELDS, *ANSWER_FIELDS))}")
