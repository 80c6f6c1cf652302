"""Rows into files: forms, splits, digests and the manifest. The same rows give the same bytes."""

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

from app import storage
from app.datasets.schemas import SIMULATED_NOTE
from app.snapshots import choosing, store
from app.synth.formats import json_line, needs_pairs, to_lines
from app.synth.splits import SPLITS, assign_splits
from app.synth.text import normalise
from app.tables.datasets import Dataset
from app.tables.snapshots import Snapshot

MANIFEST_VERSION = 1
PROGRESS_EVERY = 2000
PAIRS_AT_ONCE = 500

Item = TypeVar("Item")


@dataclass
class Export:
    """What was written: counts, and the files with their digests."""

    rows: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    origins: Counter[str] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    simulated: int = 0
    files: list[dict] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """sha256 over the sorted lines `name sha256` of the data files."""
        lines = sorted(f"{one['name']} {one['sha256']}\n" for one in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def folder(snapshot_id: str) -> str:
    return f"snapshots/{snapshot_id}"


def path(snapshot_id: str, name: str) -> str:
    return f"{folder(snapshot_id)}/{name}"


def write(session: Session, snapshot: Snapshot, progress: Callable[[int], None], check: Callable[[], None]) -> Export:
    """Write every file of the snapshot. `progress` hears the rows written so far; `check` may raise to end it."""
    spec = snapshot.spec
    export = Export(splits=Counter({split: 0 for split in SPLITS if spec["splits"].get(split, 0) > 0}))
    chosen = choosing.choose(session, snapshot)
    check()
    families = [_family(text) for id, text in store.instructions(session, snapshot) if chosen is None or id in chosen]
    split_of = assign_splits(families, spec["splits"], spec["seed"])
    names = [(split, form) for split in export.splits for form in spec["forms"]]
    lines: Counter[tuple[str, str]] = Counter()
    with ExitStack() as files:
        outs = {
            (split, form): files.enter_context(storage.writing(path(snapshot.id, f"{split}.{form}.jsonl")))
            for split, form in names
        }
        for rows in batched(store.rows(session, snapshot), PAIRS_AT_ONCE):
            check()
            kept = [row for row in rows if chosen is None or row.id in chosen]
            pairs = store.pairs(session, [row.id for row in kept]) if needs_pairs(spec["forms"]) else {}
            for row in kept:
                split = split_of[_family(row.instruction)]
                for form in spec["forms"]:
                    for made in to_lines(row, form, spec.get("reasoning") == "include", pairs.get(row.id, ())):
                        outs[split, form].write(line(row, made))
                        lines[split, form] += 1
                _count(export, row, split)
                if export.rows % PROGRESS_EVERY == 0:
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


def line(row: Row, made: dict) -> bytes:
    """One line of a row. The mark of a simulated row goes wherever the line is copied."""
    return json_line(made | ({"simulated": True} if row.simulated else {}))


def manifest(snapshot: Snapshot, dataset: Dataset, export: Export) -> dict:
    """What a reader of the files needs to know, with no place of this installation in it."""
    made = {
        "version": MANIFEST_VERSION,
        "snapshot": snapshot.id,
        "dataset": {"id": dataset.id, "name": dataset.name, "language": dataset.language},
        "through_seq": snapshot.through_seq,
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
    return made | ({"note": SIMULATED_NOTE} if export.simulated else {})


def write_manifest(snapshot_id: str, content: dict) -> None:
    with storage.writing(path(snapshot_id, "manifest.json")) as out:
        out.write(json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True).encode("utf-8") + b"\n")


def read_manifest(snapshot_id: str) -> dict:
    with storage.opened(path(snapshot_id, "manifest.json")) as source:
        return json.loads(source.read())


def _family(instruction: str) -> str:
    """By content, not by id: the same rows fall the same way in any dataset."""
    return hashlib.sha256(normalise(instruction).casefold().encode("utf-8")).hexdigest()


def batched(rows: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rows = iter(rows)
    while batch := list(islice(rows, size)):
        yield batch


def _count(export: Export, row: Row, split: str) -> None:
    export.rows += 1
    export.splits[split] += 1
    export.origins[row.origin] += 1
    export.methods[row.method or row.origin] += 1
    export.simulated += row.simulated
