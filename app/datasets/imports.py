"""The upload of an import: all lines are checked before the first is stored. A worker then admits the rows."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO, NoReturn

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app import config
from app.access.service import Caller
from app.datasets import import_job, store
from app.datasets.import_rows import ROW_MODELS
from app.datasets.material import check_labelled
from app.datasets.pools import describe_mismatch
from app.errors import AppError, FieldError, invalid
from app.jobs import event_log, queue, steering
from app.persistence import files
from app.persistence.ids import new_id
from app.synth.methods import task_families
from app.tables.datasets import Dataset, Import

# A file in a wrong format has an error in every line, and the first ones say what is wrong.
MAX_ERRORS = 20


@dataclass(frozen=True)
class Upload:
    """A checked upload: its normalised lines in a temporary file, and their number."""

    file: IO[bytes]
    rows: int


def check_task(kind: str, task: str | None) -> None:
    """Raise a 422 where labelled rows have no task of the template library, or other rows have a task."""
    if kind == "labelled" and task not in task_families.FAMILIES:
        names = ", ".join(task_families.FAMILIES)
        raise invalid("task", f"labelled rows need a task: name one of {names}", "unknown")
    if kind != "labelled" and task is not None:
        raise invalid("task", f"only labelled rows have a task: leave it out for {kind}", "not_allowed")


@dataclass(frozen=True)
class UploadEncoding:
    """The encoder that made the embeddings of an upload. All fields are None where the rows have no embeddings."""

    encoder: str | None = None
    revision: str | None = None
    dimensions: int | None = None


def check_upload_encoding(dataset: Dataset, encoder: str | None, revision: str | None) -> UploadEncoding:
    """Return the encoding of an upload. Raises a 422 for another encoder than the dataset's."""
    if encoder is None:
        return UploadEncoding()
    current = dataset.encoding or {}
    claimed = {"name": encoder} | ({"revision": revision} if revision and current else {})
    if encoder != dataset.encoder or any(current and current[name] != value for name, value in claimed.items()):
        current = {name: current.get(name, dataset.encoder) for name in claimed}
        raise invalid("query/encoder", describe_mismatch(dataset.id, current, claimed), "encoder_mismatch")
    configured = config.encoders().get(encoder)
    dimensions = (dataset.encoding or {}).get("dimensions") or (configured.dimensions if configured else None)
    return UploadEncoding(encoder, revision, dimensions)


def check_lines(
    kind: str,
    lines: Iterator[bytes],
    output: IO[bytes],
    task: str | None = None,
    encoding: UploadEncoding | None = None,
) -> Upload:
    """Read JSONL with one row a line, and write the normalised rows. Blank lines are skipped.

    Args:
        kind: what the rows are; names a model in `ROW_MODELS`.
        lines: the lines of the upload.
        output: the file to write to.
        task: the task of labelled rows.
        encoding: the encoder of the rows' embeddings.

    Raises:
        AppError: A 422 that names up to 20 bad lines, or says that there are no rows or too many.
    """
    encoding = encoding or UploadEncoding()
    model, rows, faults, max_rows = ROW_MODELS[kind], 0, [], config.limits().import_rows
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        rows += 1
        if rows > max_rows:
            _refuse([FieldError(f"line/{number}", f"more than {max_rows} rows in one import", "too_many")])
        try:
            row = model.model_validate(json.loads(line))
            if kind == "labelled":
                check_labelled(task, row.root)
            encoding = _check_vector(getattr(row, "embedding", None), encoding)
        # A RecursionError comes from JSON that is nested too deeply.
        except (ValueError, RecursionError) as error:
            faults += _field_errors(number, error)
            if len(faults) >= MAX_ERRORS:
                break
            continue
        output.write(row.model_dump_json().encode() + b"\n")
    if faults:
        _refuse(faults[:MAX_ERRORS])
    if rows == 0:
        _refuse([FieldError("body", "the upload has no rows: send one JSON object a line", "empty")])
    return Upload(output, rows)


def _check_vector(vector: list[float] | None, encoding: UploadEncoding) -> UploadEncoding:
    """Raise a ValueError for a wrong vector. The first vector sets the dimensions where the encoder's are unknown."""
    if vector is None:
        return encoding
    if encoding.encoder is None:
        raise ValueError("the row has an embedding: name the encoder that made it in the parameter encoder")
    if encoding.dimensions not in (None, len(vector)):
        raise ValueError(f"the embedding has {len(vector)} dimensions; {encoding.encoder} has {encoding.dimensions}")
    return replace(encoding, dimensions=len(vector))


def _field_errors(number: int, error: Exception) -> list[FieldError]:
    if isinstance(error, ValidationError):
        return [
            FieldError(f"line/{number}/" + "/".join(str(part) for part in fault["loc"]), fault["msg"], fault["type"])
            for fault in error.errors()
        ]
    if isinstance(error, json.JSONDecodeError):
        return [FieldError(f"line/{number}", f"the line is no JSON: {error.msg} (character {error.pos})", "not_json")]
    if isinstance(error, (UnicodeDecodeError, RecursionError)):
        return [FieldError(f"line/{number}", "the line is no JSON in UTF-8", "not_json")]
    return [FieldError(f"line/{number}", str(error), "invalid")]


def _refuse(faults: list[FieldError]) -> NoReturn:
    first = faults[0]
    raise AppError(422, "invalid-input", f"{first.pointer}: {first.detail}. Nothing was imported.", faults)


def start_import(
    session: Session, caller: Caller, dataset_id: str, kind: str, upload: Upload, task: str | None = None
) -> Import:
    """Write the lines to the storage and queue the import. Raises a 409 while the dataset is being encoded anew."""
    store.dataset(session, caller.project_id, dataset_id)
    store.refuse_while_encoding(session, dataset_id)
    id = new_id("imp")
    row = Import(
        id=id,
        project_id=caller.project_id,
        dataset_id=dataset_id,
        kind=kind,
        task=task,
        file=import_job.upload_path(id),
        rows=upload.rows,
        done_rows=0,
        accepted=0,
        rejected=0,
        rejected_by_reason={},
    )
    # The file is written before the row is committed: a worker that claims the import must find the file.
    upload.file.seek(0)
    with files.write_atomically(row.file) as out:
        while chunk := upload.file.read(files.CHUNK):
            out.write(chunk)
    session.add(row)
    session.flush()
    session.refresh(row)
    event_log.emit_status(session, row)
    queue.notify_after_commit(session, queue.IMPORT, id)
    return row


def convert_to_line(raw: IO[bytes], title: str) -> IO[bytes]:
    """Return a file with one line: the plain text as a document. Raises a 422 for a text that is not UTF-8."""
    try:
        text = raw.read().decode("utf-8")
    except UnicodeDecodeError as error:
        _refuse([FieldError("body", f"the text is not UTF-8 (byte {error.start}): convert it first", "not_utf8")])
    line = open_temporary_file()
    line.write(json.dumps({"title": title, "text": text}).encode())
    line.seek(0)
    return line


def open_temporary_file() -> IO[bytes]:
    """Open a file that is deleted when it is closed."""
    # Small uploads, the usual case, never touch the disk.
    return tempfile.SpooledTemporaryFile(max_size=8 << 20)


def cancel(session: Session, caller: Caller, dataset_id: str, id: str) -> Import:
    """Cancel the import. Rows that the worker has admitted by then stay, and the counts include them."""
    store.load_import(session, caller.project_id, dataset_id, id)
    return steering.cancel(session, import_job.KIND, id)
