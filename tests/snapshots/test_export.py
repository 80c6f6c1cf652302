"""Lines, digest and the words of failures: what an export makes of rows, without a database."""

import errno
import hashlib
import json
from dataclasses import dataclass

import pytest

from app.snapshots.export import Export, encode_line
from app.snapshots.writing import explain
from app.synth.export.formats import FORMS, to_lines
from app.synth.types import Pair


@dataclass
class Made:
    """A row as the export reads it."""

    instruction: str = "Name a fruit\u2028or two"
    input: str = ""
    output: str = "사과"
    simulated: bool = False


def made_line(row: Made, form: str) -> bytes:
    (content,) = to_lines(row, form, pairs=[Pair("best_worst", row.output, "worse", 0.5)])
    return encode_line(row, content)


@pytest.mark.parametrize("form", FORMS)
def test_a_simulated_row_carries_its_mark_wherever_it_is_copied(form):
    real, simulated = (json.loads(made_line(Made(simulated=mark), form)) for mark in (False, True))
    assert "simulated" not in real
    assert simulated == real | {"simulated": True}


@pytest.mark.parametrize("form", FORMS)
def test_a_row_is_one_line_whatever_it_holds(form):
    made = made_line(Made(output="a\r\nb\u2029c\x85d"), form)
    assert made.endswith(b"\n") and made.count(b"\n") == 1
    assert "\u2028" not in made.decode() and "\u2029" not in made.decode()


def test_the_digest_is_over_the_sorted_names_and_digests_of_the_files():
    files = [{"name": "train.alpaca.jsonl", "sha256": "b" * 64}, {"name": "test.alpaca.jsonl", "sha256": "a" * 64}]
    lines = f"test.alpaca.jsonl {'a' * 64}\ntrain.alpaca.jsonl {'b' * 64}\n"
    assert Export(files=files).digest == hashlib.sha256(lines.encode()).hexdigest()
    assert Export(files=files[::-1]).digest == Export(files=files).digest
    assert Export(files=[files[0], files[1] | {"sha256": "c" * 64}]).digest != Export(files=files).digest


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "full", "/srv/secret"), "storage_full"),
        (OSError(errno.EDQUOT, "quota", "/srv/secret"), "storage_full"),
        (OSError(errno.EROFS, "read-only", "/srv/secret"), "storage_unwritable"),
        (PermissionError(errno.EACCES, "denied", "/srv/secret"), "storage_unwritable"),
        (NotADirectoryError(errno.ENOTDIR, "a file", "/srv/secret"), "storage_unwritable"),
        (OSError(errno.EIO, "broken", "/srv/secret"), "export_failed"),
        (RuntimeError("postgresql://user:secret@host"), "export_failed"),
    ],
)
def test_a_failure_has_a_reason_and_tells_nothing_of_the_machine(error, reason):
    explanation = explain(error)
    assert explanation.stop_reason == reason
    assert "secret" not in explanation.message
