"""Existing rows on their way in: every line is checked before any is stored; then a worker admits them."""

import json
import math
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import IO, Annotated

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator
from sqlalchemy.orm import Session

from app import config, storage
from app.access.service import Caller
from app.datasets import store
from app.datasets.admission import Origin, admit
from app.datasets.material import Document, LabelledRow, check_labelled, keep_documents, keep_labelled
from app.datasets.pools import EncoderMismatch, Pools, mismatch
from app.datasets.service import seed_rows
from app.db import transaction
from app.errors import AppError, FieldError, invalid
from app.ids import new_id
from app.jobs import event_log, queue, runner
from app.jobs.leases import Claim, LeaseLost, fenced
from app.synth import task_families
from app.synth.filters import check_instance
from app.synth.pool import comparison_text
from app.synth.seeds import SeedTask
from app.synth.text import clean
from app.synth.types import Candidate, Encoder
from app.tables.datasets import Dataset, Import

ROWS_AT_ONCE = 100
MOST_ERRORS = 20


def _direction(values: list[float]) -> list[float]:
    norm = math.sqrt(sum(value * value for value in values))
    if not math.isfinite(norm) or norm == 0:
        raise ValueError("a vector of finite numbers that are not all 0 is needed")
    return [value / norm for value in values]


# Strict would refuse the whole numbers among them.
Vector = Annotated[list[Annotated[float, Field(strict=False)]], Field(max_length=16384), AfterValidator(_direction)]


class ImportedRow(BaseModel):
    """One line of kind `records`: the Alpaca form."""

    model_config = ConfigDict(extra="forbid", strict=True)

    instruction: str = Field(max_length=100_000)
    input: str | None = Field(default="", max_length=400_000)
    output: str = Field(max_length=400_000)
    embedding: Vector | None = None

    @field_validator("instruction", "input", "output")
    @classmethod
    def storable(cls, value: str | None) -> str:
        return clean(value or "")


class InstructionRow(BaseModel):
    """One line of kind `instructions`: a question that has no answer yet."""

    model_config = ConfigDict(extra="forbid", strict=True)

    instruction: str = Field(max_length=100_000)
    input: str | None = Field(default="", max_length=400_000)
    embedding: Vector | None = None

    @field_validator("instruction", "input")
    @classmethod
    def storable(cls, value: str | None) -> str:
        return clean(value or "")


KINDS: dict[str, type[BaseModel]] = {
    "seeds": SeedTask,
    "records": ImportedRow,
    "instructions": InstructionRow,
    "labelled": LabelledRow,
    "documents": Document,
}
MATERIAL = ("labelled", "documents")


@dataclass(frozen=True)
class Upload:
    """A checked upload: normalised lines in a temporary file."""

    file: IO[bytes]
    rows: int


def check_task(kind: str, task: str | None) -> None:
    """Labelled rows are of one task of the template library; nothing else has a task. Raises a 422."""
    if kind == "labelled" and task not in task_families.FAMILIES:
        known = ", ".join(task_families.FAMILIES)
        raise invalid("task", f"labelled rows need the task that they are of, one of: {known}", "unknown")
    if kind != "labelled" and task is not None:
        raise invalid("task", f"only labelled rows have a task, not {kind}", "not_allowed")


@dataclass(frozen=True)
class Encoded:
    """By which encoder the rows of an upload were encoded, if they bring their embeddings."""

    encoder: str | None = None
    revision: str | None = None
    dimensions: int | None = None


def check_encoded(dataset: Dataset, encoder: str | None, revision: str | None) -> Encoded:
    """Only vectors of the dataset's own encoder can be compared with its rows. Raises a 422 for another's."""
    if encoder is None:
        return Encoded()
    known = dataset.encoding or {}
    given = {"name": encoder} | ({"revision": revision} if revision and known else {})
    if encoder != dataset.encoder or any(known and known[name] != value for name, value in given.items()):
        known = {name: known.get(name, dataset.encoder) for name in given}
        raise invalid("query/encoder", mismatch(dataset.id, known, given), "encoder_mismatch")
    configured = config.encoders().get(encoder)
    dimensions = (dataset.encoding or {}).get("dimensions") or (configured.dimensions if configured else None)
    return Encoded(encoder, revision, dimensions)


def check_lines(
    kind: str, lines: Iterator[bytes], into: IO[bytes], task: str | None = None, encoded: Encoded | None = None
) -> Upload:
    """Read JSONL, one row a line. Raises a 422 that names up to 20 bad lines; blank lines are passed over."""
    encoded = encoded or Encoded()
    shape, rows, faults, most = KINDS[kind], 0, [], config.limits().import_rows
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        rows += 1
        if rows > most:
            raise _bad([FieldError(f"line/{number}", f"more than {most} rows in one import", "too_many")])
        try:
            row = shape.model_validate(json.loads(line))
            if kind == "labelled":
                check_labelled(task, row.root)
            encoded = _check_vector(getattr(row, "embedding", None), encoded)
        except (ValueError, RecursionError) as error:
            faults += _faults(number, error)
            if len(faults) >= MOST_ERRORS:
                break
            continue
        into.write(row.model_dump_json().encode() + b"\n")
    if faults:
        raise _bad(faults[:MOST_ERRORS])
    if rows == 0:
        raise _bad([FieldError("body", "no rows: send one JSON object a line", "empty")])
    return Upload(into, rows)


def _check_vector(vector: list[float] | None, encoded: Encoded) -> Encoded:
    """Raises ValueError. The first vector says the size, where it is not known before."""
    if vector is None:
        return encoded
    if encoded.encoder is None:
        raise ValueError("an embedding: say by which encoder it was made, with the parameter encoder")
    if encoded.dimensions not in (None, len(vector)):
        raise ValueError(f"an embedding of {len(vector)} dimensions; {encoded.encoder} has {encoded.dimensions}")
    return replace(encoded, dimensions=len(vector))


def _faults(number: int, error: Exception) -> list[FieldError]:
    if isinstance(error, ValidationError):
        return [
            FieldError(f"line/{number}/" + "/".join(str(part) for part in one["loc"]), one["msg"], one["type"])
            for one in error.errors()
        ]
    if isinstance(error, json.JSONDecodeError):
        return [FieldError(f"line/{number}", f"not JSON: {error.msg} (character {error.pos})", "not_json")]
    if isinstance(error, (UnicodeDecodeError, RecursionError)):
        return [FieldError(f"line/{number}", "not readable as JSON in UTF-8", "not_json")]
    return [FieldError(f"line/{number}", str(error), "invalid")]


def _bad(faults: list[FieldError]) -> AppError:
    first = faults[0]
    return AppError(422, "invalid-input", f"{first.pointer}: {first.detail}. Nothing was imported.", faults)


def start(
    session: Session, caller: Caller, dataset_id: str, kind: str, upload: Upload, task: str | None = None
) -> Import:
    """Keep the lines in storage and queue the import."""
    store.dataset(session, caller.project_id, dataset_id)
    store.refuse_while_encoding(session, dataset_id)
    id = new_id("imp")
    row = Import(
        id=id,
        project_id=caller.project_id,
        dataset_id=dataset_id,
        kind=kind,
        task=task,
        file=f"imports/{id}.jsonl",
        rows=upload.rows,
        done_rows=0,
        accepted=0,
        rejected=0,
        rejected_by_reason={},
    )
    upload.file.seek(0)
    with storage.writing(row.file) as out:
        while chunk := upload.file.read(storage.CHUNK):
            out.write(chunk)
    session.add(row)
    session.flush()
    session.refresh(row)
    event_log.emit_status(session, row)
    queue.ring_after_commit(session, queue.IMPORT, id)
    return row


def as_line(raw: IO[bytes], title: str) -> IO[bytes]:
    """A plain text as the one line of a document. Raises a 422 for what is not UTF-8."""
    try:
        text = raw.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad([FieldError("body", f"not UTF-8 (byte {error.start})", "not_utf8")]) from error
    line = temporary_file()
    line.write(json.dumps({"title": title, "text": text}).encode())
    line.seek(0)
    return line


def temporary_file() -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(max_size=8 << 20)


def work(id: str, pools: Pools) -> None:
    """Admit the rows of an import, from where it stands, and end it. A second call finds nothing to claim."""
    runner.work(Import, id, lambda taken, beat: _admit_rows(taken, pools, beat), "import_failed")


def waiting(session: Session) -> list[str]:
    return runner.waiting(session, Import)


def _admit_rows(taken: Claim, pools: Pools, beat) -> None:
    with transaction() as session:
        row = session.get(Import, taken.id)
        dataset = store.dataset(session, row.project_id, row.dataset_id)
    try:
        encoder = None if row.kind in MATERIAL else pools.prepare(dataset)
    except EncoderMismatch as error:
        raise runner.CannotGoOn("encoder_mismatch", str(error)) from error
    with storage.opened(row.file) as source:
        lines = islice(source, row.done_rows, None)
        while chunk := list(islice(lines, ROWS_AT_ONCE)):
            if beat.lost.is_set():
                raise LeaseLost(taken.id)
            values = [json.loads(line) for line in chunk]
            if row.kind in MATERIAL:
                _keep_chunk(taken, values)
            else:
                _admit_chunk(taken, row.kind, values, pools, dataset, encoder)
    with transaction() as session:
        runner.succeed(session, fenced(session, taken))
    storage.delete(row.file)


def _keep_chunk(taken: Claim, values: list[dict]) -> None:
    with transaction() as session:
        row = fenced(session, taken)
        if row.kind == "labelled":
            stored = keep_labelled(session, row.dataset_id, row.id, row.task, values)
        else:
            stored = keep_documents(session, row.dataset_id, row.id, values)
        _count(session, row, len(values), stored.accepted, stored.rejected)


def _count(session: Session, row: Import, done: int, accepted: int, rejected: Counter[str]) -> None:
    row.done_rows += done
    row.accepted += accepted
    row.rejected += rejected.total()
    row.rejected_by_reason = dict(Counter(row.rejected_by_reason) + rejected)
    event_log.emit(session, row, "progress", done_rows=row.done_rows, rows=row.rows, accepted=row.accepted)


def _admit_chunk(taken: Claim, kind: str, values: list[dict], pools: Pools, dataset: Dataset, encoder: Encoder) -> None:
    made = [_candidates(kind, value) for value in values]
    candidates = [row for rows in made for row in rows]
    given = [value.get("embedding") for value, rows in zip(values, made, strict=True) for _ in rows]
    vectors = _vectors(encoder, dataset, candidates, given)
    with transaction() as session:
        fenced(session, taken)
    with pools.offering(dataset.id, candidates, vectors) as offer:
        row = fenced(offer.session, taken)
        origin = Origin("seed" if kind == "seeds" else "imported", import_id=row.id)
        outcome = admit(offer.session, offer.dataset, candidates, vectors, origin, offer.precheck)
        _count(offer.session, row, len(values), outcome.accepted, outcome.rejected)


def _vectors(
    encoder: Encoder, dataset: Dataset, candidates: list[Candidate], given: list[list[float] | None]
) -> list[np.ndarray | None]:
    """Every text once; None for a row without one. What is rejected is encoded, too: it has neighbours."""
    wrong = next((len(one) for one in given if one is not None and len(one) != encoder.identity["dimensions"]), None)
    if wrong is not None:
        words = f"Its embeddings have {wrong} dimensions; those of {dataset.encoder} have"
        raise runner.CannotGoOn("encoder_mismatch", f"{words} {encoder.identity['dimensions']}.")
    texts = [comparison_text(dataset.scope, candidate) for candidate in candidates]
    distinct = [t for t in dict.fromkeys(t for t, one in zip(texts, given, strict=True) if one is None) if t]
    known = dict(zip(distinct, encoder.encode(distinct) if distinct else (), strict=True))
    return [
        known.get(text) if one is None else np.array(one, dtype=np.float32)
        for text, one in zip(texts, given, strict=True)
    ]


def _candidates(kind: str, value: dict) -> list[Candidate]:
    if kind == "seeds":
        return seed_rows(SeedTask.model_validate(value))
    row = KINDS[kind].model_validate(value)
    candidate = Candidate(row.instruction, row.input, getattr(row, "output", ""))
    if not row.instruction:
        return [candidate.turned_away("empty_instruction")]
    found = None if kind == "instructions" else check_instance(row.input, row.output)
    return [replace(candidate, rejection=found)]
