"""Writes rows to the files of a snapshot, one file for each split and form, and their manifest.

Equal rows give equal bytes, so the digest of a snapshot names its content.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Row
from sqlalchemy.orm import Session

from app.datasets import training_rows
from app.datasets.rows import DatasetRow
from app.datasets.schemas import SIMULATED_NOTE
from app.persistence import files
from app.snapshots import row_selection, store
from app.synth.export.formats import PreferencePair, json_line, needs_pairs, to_lines
from app.synth.export.splits import SPLITS, assign_splits
from app.synth.text import normalise
from app.tables.snapshots import Snapshot

MANIFEST_VERSION = 1
# Each progress is a commit and an event.
ROWS_PER_PROGRESS = 2000
# So many rows are in memory at once, with their preference pairs.
ROWS_PER_CHUNK = 500

Item = TypeVar("Item")
FileKey = tuple[str, str]
"""A data file of a snapshot: its split and its form."""


@dataclass
class Export:
    """The result of an export.

    Attributes:
        rows: how many rows were written, each in every form.
        splits: the rows by split.
        origins: the rows by origin.
        methods: the rows by method, or by origin where no method has generated them.
        simulated: the rows that a simulated teacher has written.
        files: name, form, split, lines (as `rows`), bytes and sha256 of each data file.
    """

    rows: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    origins: Counter[str] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    simulated: int = 0
    files: list[dict] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """The sha256 over the sorted lines `name sha256` of the data files, in hex."""
        lines = sorted(f"{file['name']} {file['sha256']}\n" for file in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def folder_path(snapshot_id: str) -> str:
    """Return the storage path of the snapshot's files."""
    return f"snapshots/{snapshot_id}"


def file_path(snapshot_id: str, name: str) -> str:
    """Return the storage path of one file of the snapshot."""
    return f"{folder_path(snapshot_id)}/{name}"


def write(session: Session, snapshot: Snapshot, progress: Callable[[int], None], check: Callable[[], None]) -> Export:
    """Write every data file of the snapshot; `write_manifest` writes the manifest.

    Args:
        session: a transaction that sees one state of the pool, since the rows are read twice.
        snapshot: the snapshot, with its specification.
        progress: called with the number of rows written so far.
        check: called before each chunk of rows. What it raises ends the export.
    """
    spec = snapshot.spec
    # A split with a share gets its files even if no row falls into it.
    export = Export(splits=Counter({split: 0 for split in SPLITS if spec["splits"].get(split, 0) > 0}))
    selected_ids = row_selection.select_row_ids(session, snapshot)
    check()
    split_by_hash = _assign_splits(session, snapshot, selected_ids)
    with ExitStack() as open_files:
        outputs = _open_outputs(open_files, snapshot, list(export.splits))
        writer = _RowWriter(spec, split_by_hash, outputs, export, progress)
        for chunk in iterate_chunks(training_rows.stream_rows(session, store.rows_of(snapshot)), ROWS_PER_CHUNK):
            check()
            writer.write(session, [row for row in chunk if selected_ids is None or row.id in selected_ids])
    # Sizes and digests are complete when the files are closed.
    export.files = [_describe_file(key, out, writer.lines[key]) for key, out in outputs.items()]
    return export


def _assign_splits(session: Session, snapshot: Snapshot, selected_ids: set[str] | None) -> Mapping[str, str]:
    """The split of each group by the hash of its instruction.

    The shares need the number of groups, so all instructions are read once before the first row is written.
    """
    groups = [
        _hash_instruction(text)
        for id, text in training_rows.stream_instructions(session, store.rows_of(snapshot))
        if selected_ids is None or id in selected_ids
    ]
    return assign_splits(groups, snapshot.spec["splits"], snapshot.spec["seed"])


def _open_outputs(open_files: ExitStack, snapshot: Snapshot, splits: list[str]) -> dict[FileKey, Any]:
    keys = [(split, form) for split in splits for form in snapshot.spec["forms"]]
    paths = {key: file_path(snapshot.id, _file_name(key)) for key in keys}
    return {key: open_files.enter_context(files.write_atomically(path)) for key, path in paths.items()}


def _file_name(key: FileKey) -> str:
    split, form = key
    return f"{split}.{form}.jsonl"


def _describe_file(key: FileKey, out: Any, lines: int) -> dict:
    split, form = key
    sizes = {"rows": lines, "bytes": out.bytes, "sha256": out.sha256}
    return {"name": _file_name(key), "form": form, "split": split, **sizes}


@dataclass
class _RowWriter:
    """Writes each row to the files of its split, in every form, and counts it."""

    spec: dict
    split_by_hash: Mapping[str, str]
    outputs: dict[FileKey, Any]
    export: Export
    progress: Callable[[int], None]
    lines: Counter[FileKey] = field(default_factory=Counter)

    def write(self, session: Session, rows: list[Row]) -> None:
        pairs = {}
        if needs_pairs(self.spec["forms"]):
            pairs = training_rows.load_pairs(session, [row.id for row in rows])
        for row in rows:
            self._write_row(row, pairs.get(row.id, ()))
            if self.export.rows % ROWS_PER_PROGRESS == 0:
                self.progress(self.export.rows)

    def _write_row(self, row: Row, pairs: Iterable[PreferencePair]) -> None:
        split = self.split_by_hash[_hash_instruction(row.instruction)]
        for form in self.spec["forms"]:
            for content in _lines_of(row, form, self.spec, pairs):
                self.outputs[split, form].write(encode_line(row, content))
                self.lines[split, form] += 1
        _count_row(self.export, row, split)


def encode_line(row: Row, content: dict) -> bytes:
    """Return the bytes of one line of a row, with a mark if the row is simulated."""
    # The mark stands in each line, so that it survives when somebody copies lines into another file.
    return json_line(content | ({"simulated": True} if row.simulated else {}))


def build_manifest(snapshot: Snapshot, dataset: DatasetRow, export: Export) -> dict:
    """Return what a reader of the files needs to know. It names no path or address of this installation."""
    content = {
        "version": MANIFEST_VERSION,
        "snapshot": snapshot.id,
        "dataset": {"id": dataset.id, "name": dataset.name, "language": dataset.language},
        "through_pool_position": snapshot.through_pool_position,
        # The old name, see docs/deprecations.md.
        "through_seq": snapshot.through_pool_position,
        "spec": snapshot.spec,
        "rules": {
            "lexical_threshold": dataset.lexical_threshold,
            "lexical_mode": dataset.lexical_mode,
            "semantic_threshold": dataset.semantic_threshold,
            "encoder": dataset.encoder,
        },
        "rows": export.rows,
        "splits": dict(export.splits),
        "origins": dict(export.origins),
        "methods": dict(export.methods),
        "simulated_rows": export.simulated,
        "files": export.files,
        "digest": export.digest,
    }
    return content | ({"note": SIMULATED_NOTE} if export.simulated else {})


def write_manifest(snapshot_id: str, content: dict) -> None:
    """Write the manifest as JSON."""
    with files.write_atomically(file_path(snapshot_id, "manifest.json")) as out:
        out.write(json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True).encode("utf-8") + b"\n")


def read_manifest(snapshot_id: str) -> dict:
    """Return the stored manifest."""
    with files.open_stored(file_path(snapshot_id, "manifest.json")) as source:
        return json.loads(source.read())


def _hash_instruction(instruction: str) -> str:
    # By content and not by id: equal instructions are in one split, in every dataset that has them (docs/adr/0006).
    return hashlib.sha256(normalise(instruction).casefold().encode("utf-8")).hexdigest()


def iterate_chunks(rows: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of `size` rows; the last list may be shorter."""
    iterator = iter(rows)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _lines_of(row: Row, form: str, spec: dict, pairs: Iterable[PreferencePair]) -> list[dict]:
    # Snapshots that were ordered before a setting existed do not have it.
    has_reasoning, thought = spec.get("reasoning") == "include", spec.get("thought", "drop")
    return to_lines(row, form, has_reasoning, pairs, thought)


def _count_row(export: Export, row: Row, split: str) -> None:
    export.rows += 1
    export.splits[split] += 1
    export.origins[row.origin] += 1
    export.methods[row.method or row.origin] += 1
    export.simulated += row.simulated
