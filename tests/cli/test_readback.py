"""Files that were downloaded are what they should be, or are refused with their name."""

import json

import pytest

from app.cli.readback import read_back
from app.cli.session import CommandError


def safetensors(header: dict, payload: int) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"\0" * payload


VALID_HEADER = {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, "__metadata__": {"format": "pt"}}


@pytest.mark.parametrize(
    ("name", "content", "rows", "description"),
    [
        ("train.jsonl", b'{"a": 1}\n{"a": 2}\n', 2, "2 rows"),
        ("card.json", b"{}", None, "JSON"),
        ("adapter_model.safetensors", safetensors(VALID_HEADER, 24), None, "1 tensors, 6 weights"),
        ("README.md", b"# card", None, "text"),
        ("spiece.model", b"\0", None, "file"),
    ],
)
def test_a_whole_file_is_told_in_words(tmp_path, name, content, rows, description):
    (tmp_path / name).write_bytes(content)
    assert read_back(tmp_path / name, rows) == description


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("train.jsonl", b'{"a": 1}\n', 2),
        ("train.jsonl", b'{"a": 1\n', 1),
        ("card.json", b"", None),
        ("adapter_model.safetensors", safetensors(VALID_HEADER, 23), None),
        ("adapter_model.safetensors", safetensors({}, 0), None),
        ("adapter_model.safetensors", b"short", None),
    ],
)
def test_a_file_that_is_not_whole_is_refused(tmp_path, name, content, rows):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CommandError, match=name):
        read_back(tmp_path / name, rows)
