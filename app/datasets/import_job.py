"""Admitting the rows of an import, chunk by chunk. A kind of job.

Each chunk is admitted whole, in one transaction with the counts. What was admitted stays, whatever ends the import.
"""

import json
from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
from sqlalchemy.orm import Session

from app.datasets import store
from app.datasets.admission import Origin, admit
from app.datasets.import_rows import MATERIAL, ROW_MODELS
from app.datasets.material import store_documents, store_labelled
from app.datasets.pools import EncoderMismatch, Pools
from app.datasets.service import seed_rows
from app.jobs import queue
from app.jobs.kinds import Explanation, JobFailed, JobKind
from app.jobs.runner import RunningJob
from app.persistence import files
from app.persistence.db import transaction
from app.synth.novelty.pool import comparison_text
from app.synth.quality.filters import check_instance
from app.synth.seeds import SeedTask
from app.synth.types import Candidate, Encoder
from app.tables.datasets import Dataset, Import

ROWS_AT_ONCE = 100


def admit_rows(job: RunningJob, pools: Pools) -> None:
    """Admit the rows of an import, chunk by chunk. A new attempt goes on after the last admitted chunk."""
    with transaction() as session:
        row = session.get(Import, job.id)
        dataset = store.dataset(session, row.project_id, row.dataset_id)
    encoder = None if row.kind in MATERIAL else pools.prepare(dataset)
    with files.open_stored(row.file) as source:
        lines = islice(source, row.done_rows, None)
        while chunk := list(islice(lines, ROWS_AT_ONCE)):
            job.check()
            values = [json.loads(line) for line in chunk]
            if row.kind in MATERIAL:
                _store_chunk(job, values)
            else:
                _admit_chunk(job, row.kind, values, pools, dataset, encoder)
    with job.transaction() as (session, row):
        job.succeed(session, row)
    discard_files(job.id)


def _store_chunk(job: RunningJob, values: list[dict]) -> None:
    with job.transaction() as (session, row):
        if row.kind == "labelled":
            stored = store_labelled(session, row.dataset_id, row.id, row.task, values)
        else:
            stored = store_documents(session, row.dataset_id, row.id, values)
        _count(job, session, row, len(values), stored.accepted, stored.rejected)


def _count(job: RunningJob, session: Session, row: Import, done: int, accepted: int, rejected: Counter[str]) -> None:
    row.done_rows += done
    row.accepted += accepted
    row.rejected += rejected.total()
    row.rejected_by_reason = dict(Counter(row.rejected_by_reason) + rejected)
    job.progress(session, row, done_rows=row.done_rows, rows=row.rows, accepted=row.accepted)


def _admit_chunk(
    job: RunningJob, kind: str, values: list[dict], pools: Pools, dataset: Dataset, encoder: Encoder
) -> None:
    candidates_by_line = [_candidates(kind, value) for value in values]
    candidates = [row for rows in candidates_by_line for row in rows]
    uploaded = [value.get("embedding") for value, rows in zip(values, candidates_by_line, strict=True) for _ in rows]
    vectors = _vectors(encoder, dataset, candidates, uploaded)
    job.check()
    with pools.offering(dataset.id, candidates, vectors) as offer:
        origin = Origin("seed" if kind == "seeds" else "imported", import_id=job.id)
        outcome = admit(offer.session, offer.dataset, candidates, vectors, origin, offer.precheck)
        # The row of the job is locked last, so that a request to cancel does not wait for the whole admission.
        row = job.fence(offer.session)
        _count(job, offer.session, row, len(values), outcome.accepted, outcome.rejected)


def _vectors(
    encoder: Encoder, dataset: Dataset, candidates: list[Candidate], uploaded: list[list[float] | None]
) -> list[np.ndarray | None]:
    """One vector for each candidate, None for a candidate without text.

    An equal text is encoded only once. Rejected candidates are encoded, too, because people ask for their neighbours.
    Raises JobFailed where an uploaded vector has another size than the encoder's.
    """
    wrong_size = next(
        (len(vector) for vector in uploaded if vector is not None and len(vector) != encoder.identity["dimensions"]),
        None,
    )
    if wrong_size is not None:
        message = f"Its embeddings have {wrong_size} dimensions; those of {dataset.encoder} have"
        raise JobFailed("encoder_mismatch", f"{message} {encoder.identity['dimensions']}.")
    texts = [comparison_text(dataset.scope, candidate) for candidate in candidates]
    distinct = [t for t in dict.fromkeys(t for t, vector in zip(texts, uploaded, strict=True) if vector is None) if t]
    encoded = dict(zip(distinct, encoder.encode(distinct) if distinct else (), strict=True))
    return [
        encoded.get(text) if vector is None else np.array(vector, dtype=np.float32)
        for text, vector in zip(texts, uploaded, strict=True)
    ]


def _candidates(kind: str, value: dict) -> list[Candidate]:
    if kind == "seeds":
        return seed_rows(SeedTask.model_validate(value))
    row = ROW_MODELS[kind].model_validate(value)
    candidate = Candidate(row.instruction, row.input, getattr(row, "output", ""))
    if not row.instruction:
        return [candidate.reject("empty_instruction")]
    rejection = None if kind == "instructions" else check_instance(row.input, row.output)
    return [replace(candidate, rejection=rejection)]


def upload_path(id: str) -> str:
    """The storage path of the uploaded lines, which are deleted when the import has ended."""
    return f"imports/{id}.jsonl"


def explain(error: Exception) -> Explanation:
    if isinstance(error, EncoderMismatch):
        return Explanation("encoder_mismatch", str(error), final=True)
    return Explanation("import_failed", f"{type(error).__name__}: {error}")


def discard_files(id: str) -> None:
    files.delete(upload_path(id))


KIND = JobKind(
    name="import",
    table=Import,
    task=queue.IMPORT,
    perform=admit_rows,
    explain=explain,
    max_attempts=5,
    discard_files=discard_files,
)
