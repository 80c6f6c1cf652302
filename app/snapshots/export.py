"""Writes rows to the files of a snapshot: forms, splits, digests, manifest. Equal rows give equal bytes."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

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
ROWS_PER_PROGRESS = 2000
BATCH_ROWS = 500

Item = TypeVar("Item")


@dataclass
class Export:
    """The result of an export: counts of its rows, and its files with their sizes and digests."""

    rows: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    origins: Counter[str] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    simulated: int = 0
    files: list[dict] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """sha256 over the sorted lines `name sha256` of the data files."""
        lines = sorted(f"{file['name']} {file['sha256']}\n" for file in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def folder_path(snapshot_id: str) -> str:
    return f"snapshots/{snapshot_id}"


def file_path(snapshot_id: str, name: str) -> str:
    return f"{folder_path(snapshot_id)}/{name}"


def write(session: Session, snapshot: Snapshot, progress: Callable[[int], None], check: Callable[[], None]) -> Export:
    """Write every data file of the snapshot; the manifest is written apart.

    Args:
        progress: called with the number of rows written so far.
        check: called before each batch of rows. An exception that it raises ends the export.
    """
    spec, snapshot_rows = snapshot.spec, store.rows_of(snapshot)
    # A split with a share gets its file even if no row falls into it.
    export = Export(splits=Counter({split: 0 for split in SPLITS if spec["splits"].get(split, 0) > 0}))
    selected_ids = row_selection.select_row_ids(session, snapshot)
    check()
    # The shares need the number of groups, so all instructions are read once before the first row is written.
    groups = [
        _hash_instruction(text)
        for id, text in training_rows.stream_instructions(session, snapshot_rows)
        if selected_ids is None or id in selected_ids
    ]
    split_of = assign_splits(groups, spec["splits"], spec["seed"])
    names = [(split, form) for split in export.splits for form in spec["forms"]]
    lines: Counter[tuple[str, str]] = Counter()
    with ExitStack() as opened:
        outs = {
            (split, form): opened.enter_context(files.write_atomically(file_path(snapshot.id, f"{split}.{form}.jsonl")))
            for split, form in names
        }
        for batch in iterate_batches(training_rows.stream_rows(session, snapshot_rows), BATCH_ROWS):
            check()
            rows = [row for row in batch if selected_ids is None or row.id in selected_ids]
            pairs = training_rows.load_pairs(session, [row.id for row in rows]) if needs_pairs(spec["forms"]) else {}
            for row in rows:
                split = split_of[_hash_instruction(row.instruction)]
                for form in spec["forms"]:
                    for content in _lines_of(row, form, spec, pairs.get(row.id, ())):
                        outs[split, form].write(encode_line(row, content))
                        lines[split, form] += 1
                _count_row(export, row, split)
                if export.rows % ROWS_PER_PROGRESS == 0:
                    progress(export.rows)
    export.files = [
        {
            "name": f"{split}.{form}.jsonl",
            "form": form,
            "split": split,
            "rows": lines[split, form],
            "bytes": out.bytes,
            "sha256": out.sha256,
        }
        for (split, form), out in outs.items()
    ]
    return export


def encode_line(row: Row, content: dict) -> bytes:
    """The bytes of one line of a row, with the mark of a simulated row."""
    # The mark stands in each line, so that it survives when somebody copies lines into another file.
    return json_line(content | ({"simulated": True} if row.simulated else {}))


def build_manifest(snapshot: Snapshot, dataset: DatasetRow, export: Export) -> dict:
    """The facts that a reader of the files needs. It names no path or address of this installation."""
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
    with files.write_atomically(file_path(snapshot_id, "manifest.json")) as out:
        out.write(json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True).encode("utf-8") + b"\n")


def read_manifest(snapshot_id: str) -> dict:
    with files.open_stored(file_path(snapshot_id, "manifest.json")) as source:
        return json.loads(source.read())


def _hash_instruction(instruction: str) -> str:
    # By content, not by id: equal instructions share a split, in any dataset that holds them.
    return hashlib.sha256(normalise(instruction).casefold().encode("utf-8")).hexdigest()


def iterate_batches(rows: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` rows; the last list may be shorter."""
    iterator = iter(rows)
    while batch := list(islice(iterator, size)):
        yield batch


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
