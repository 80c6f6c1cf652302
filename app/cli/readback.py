"""Reads downloaded files back, to prove that they are complete and valid."""

import json
from math import prod
from pathlib import Path

from app.cli.session import CommandError


def read_back(path: Path, rows: int | None = None) -> str:
    """Return a short description of a file's content.

    Args:
        path: The file. Its extension decides how it is read.
        rows: The number of lines that a .jsonl file must have, or None.

    Raises:
        CommandError: The content is not valid, or the number of rows differs.
    """
    try:
        if path.suffix == ".jsonl":
            return _rows(path, rows)
        if path.suffix == ".json":
            json.loads(path.read_text("utf-8"))
            return "JSON"
        if path.suffix == ".safetensors":
            return _tensors(path)
    except (ValueError, KeyError, OSError) as error:
        raise CommandError(f"The downloaded file {path} is not valid: {error}. Download it again.") from error
    return "text" if path.suffix in (".md", ".txt", ".jinja") else "file"


def _rows(path: Path, expected: int | None) -> str:
    with path.open(encoding="utf-8") as lines:
        # Every line is parsed: a download can also be damaged in the middle.
        count = sum(1 for line in lines if isinstance(json.loads(line), dict))
    if expected is not None and count != expected:
        raise ValueError(f"{count} rows instead of {expected}")
    return f"{count} rows"


def _tensors(path: Path) -> str:
    """Return the number of tensors and weights of a safetensors file. The tensors must fill the file exactly.

    Format (https://huggingface.co/docs/safetensors): eight bytes with the length of the header, the header as JSON
    (name, shape and offsets of each tensor), then the tensors.

    Raises:
        ValueError: The header is truncated, or the tensors do not fill the file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if 8 + length > size:
            raise ValueError("the header is cut off")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
    # A truncated download has a valid header, but its tensors end before the file does, or after it.
    if not header or 8 + length + end != size:
        raise ValueError("the tensors do not fill the file")
    weights = sum(prod(tensor["shape"]) for tensor in header.values())
    return f"{len(header)} tensors, {weights:,} weights"
