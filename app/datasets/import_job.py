"""The job that admits the rows of an import, chunk by chunk.

Each chunk is admitted in one transaction with the counts, so a new attempt knows where to continue. Rows that were
admitted stay, however the import ends.
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
from app.datasets.service import build_seed_candidates
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

# A chunk holds the lock of the dataset, so many rows for about 0.04 s (docs/adr/0010), and a cancel waits for it.
ROWS_PER_CHUNK = 100


def admit_rows(job: RunningJob, pools: Pools) -> None:
    """Admit the rows of an import, chunk by chunk. A new attempt continues after the last chunk of the previous one.

    Args:
        job: the claimed import.
        pools: the cached pools of this process, with the encoders.

    Raises:
        EncoderMismatch: This worker can't compute vectors that are comparable with those of the dataset.
        JobFailed: The embeddings of the upload have another size than those of the dataset.
    """
    with transaction() as session:
        row = session.get(Import, job.id)
        dataset = store.dataset(session, row.project_id, row.dataset_id)
    # Material is not compared with other rows, so it needs no vectors.
    encoder = None if row.kind in MATERIAL else pools.prepare(dataset)
    with files.open_stored(row.file) as source:
        # `done_rows` is committed with the rows of its chunk, so no line is admitted twice.
        lines = islice(source, row.done_rows, None)
        while chunk := list(islice(lines, ROWS_PER_CHUNK)):
            job.check()
            values = [json.loads(line) for line in chunk]
            if row.kind in MATERIAL:
                _store_chunk(job, values)
            else:
                _admit_chunk(job, row.kind, values, pools, dataset, encoder)
    with job.transaction() as (session, row):
        job.succeed(session, row)
    # After the commit: an attempt that fails before it must leave the lines to the next attempt.
    discard_files(job.id)


def _store_chunk(job: RunningJob, values: list[dict]) -> None:
    with job.transaction() as (session, row):
        if row.kind == "labelled":
            counts = store_labelled(session, row.dataset_id, row.id, row.task, values)
        else:
            counts = store_documents(session, row.dataset_id, row.id, values)
        _count_rows(job, session, row, len(values), counts.accepted, counts.rejected)


def _count_rows(
    job: RunningJob, session: Session, row: Import, done: int, accepted: int, rejected: Counter[str]
) -> None:
    row.done_rows += done
    row.accepted += accepted
    row.rejected += rejected.total()
    row.rejected_by_reason = dict(Counter(row.rejected_by_reason) + rejected)
    job.progress(session, row, done_rows=row.done_rows, rows=row.rows, accepted=row.accepted)


def _admit_chunk(
    job: RunningJob, kind: str, values: list[dict], pools: Pools, dataset: Dataset, encoder: Encoder
) -> None:
    candidates_by_line = [_build_candidates(kind, value) for value in values]
    candidates = [row for rows in candidates_by_line for row in rows]
    uploaded = [value.get("embedding") for value, rows in zip(values, candidates_by_line, strict=True) for _ in rows]
    vectors = _compute_vectors(encoder, dataset, candidates, uploaded)
    # The encoding took seconds, and a cancelled import must not wait for the lock of the dataset as well.
    job.check()
    with pools.precheck_and_lock(dataset.id, candidates, vectors) as offer:
        origin = Origin("seed" if kind == "seeds" else "imported", import_id=job.id)
        outcome = admit(offer.session, offer.dataset, candidates, vectors, origin, offer.precheck)
        # The row of the job is locked last, so that a request to cancel does not wait for the whole admission.
        row = job.fence(offer.session)
        _count_rows(job, offer.session, row, len(values), outcome.accepted, outcome.rejected)


def _compute_vectors(
    encoder: Encoder, dataset: Dataset, candidates: list[Candidate], uploaded: list[list[float] | None]
) -> list[np.ndarray | None]:
    """A unit vector for each candidate, None for a candidate without text: the uploaded one, or one of the encoder.

    Rejected candidates are encoded, too, because people ask for their neighbours.

    Raises:
        JobFailed: An uploaded vector has another size than those of the encoder.
    """
    wrong_size = next(
        (len(vector) for vector in uploaded if vector is not None and len(vector) != encoder.identity["dimensions"]),
        None,
    )
    if wrong_size is not None:
        message = (
            f"The embeddings of the upload have {wrong_size} dimensions, but the encoder {dataset.encoder} has "
            f"{encoder.identity['dimensions']}. Import the rows without embeddings, or with those of this encoder."
        )
        raise JobFailed("encoder_mismatch", message)
    texts = [comparison_text(dataset.scope, candidate) for candidate in candidates]
    # The rows of one instruction have one text, which is encoded only once.
    distinct = [t for t in dict.fromkeys(t for t, vector in zip(texts, uploaded, strict=True) if vector is None) if t]
    encoded = dict(zip(distinct, encoder.encode(distinct) if distinct else (), strict=True))
    return [
        encoded.get(text) if vector is None else np.array(vector, dtype=np.float32)
        for text, vector in zip(texts, uploaded, strict=True)
    ]


def _build_candidates(kind: str, value: dict) -> list[Candidate]:
    if kind == "seeds":
        return build_seed_candidates(SeedTask.model_validate(value))
    row = ROW_MODELS[kind].model_validate(value)
    candidate = Candidate(row.instruction, row.input, getattr(row, "output", ""))
    if not row.instruction:
        return [candidate.reject("empty_instruction")]
    rejection = None if kind == "instructions" else check_instance(row.input, row.output)
    return [replace(candidate, rejection=rejection)]


def upload_path(id: str) -> str:
    """Return the storage path of the uploaded lines, which are deleted when the import has ended."""
    return f"imports/{id}.jsonl"


def explain(error: Exception) -> Explanation:
    """Return the stop_reason and the message of an import that has failed with this error."""
    if isinstance(error, EncoderMismatch):
        return Explanation("encoder_mismatch", str(error), final=True)
    return Explanation("import_failed", f"{type(error).__name__}: {error}")


def discard_files(id: str) -> None:
    """Delete the uploaded lines of the import."""
    files.delete(upload_path(id))


# No reset: a new attempt continues after the last chunk that was committed.
KIND = JobKind(
    name="import",
    table=Import,
    task=queue.IMPORT,
    perform=admit_rows,
    explain=explain,
    max_attempts=5,
    discard_files=discard_files,
)
