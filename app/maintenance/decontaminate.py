"""Searches the accepted rows of a dataset for evaluation items, and reports, flags or drops the rows that match."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from sqlalchemy.orm import Session

from app.datasets import records
from app.datasets import store as dataset_store
from app.datasets.decisions import NewDecision
from app.datasets.pools import Pools
from app.datasets.rows import DatasetRow, RecordRow
from app.jobs.runner import RunningJob
from app.maintenance import store
from app.persistence.db import transaction
from app.runs import decisions
from app.synth.novelty.decontaminate import NgramIndex
from app.synth.types import Encoder, Rejection
from app.tables.maintenance import EvaluationItem, MaintenanceJob, Match

# Each batch is one commit with its progress, and between two batches the job sees a cancel.
BATCH_ROWS = 256
# A person compares the row with its nearest items; one match is enough to flag or to drop it.
MAX_EMBEDDING_MATCHES = 3
# An item may be long, and each of its matches stores a copy of its text: the evaluation set may be deleted later.
ITEM_TEXT_LENGTH = 1000
REASON, TAG = "contaminated", "contaminated"


class EvaluationIndex:
    """The evaluation items as an n-gram index, as vectors, or both.

    Args:
        items: the items of all requested sets.
        ngram: how many consecutive words a row and an item must share; None for no search by n-grams.
        threshold: the cosine from which a row matches an item; None for no search by embeddings.
        encoder: the encoder of the dataset, so that its vectors can be compared with those of the rows.
    """

    def __init__(self, items: Sequence[EvaluationItem], ngram: int | None, threshold: float | None, encoder: Encoder):
        self.items, self.threshold = items, threshold
        self.grams = None if ngram is None else NgramIndex(ngram)
        for position, item in enumerate(items):
            if self.grams is not None:
                self.grams.add(position, item.text)
        self.vectors = None
        if threshold is not None:
            self.vectors = encoder.encode([item.text for item in items])

    def match_ngrams(self, row: RecordRow) -> list[dict]:
        """Return the n-gram matches of the row as columns of `Match`, with the span in the field that contains it."""
        matches = []
        for field, text in _list_fields(row):
            for span in self.grams.find(text) if self.grams is not None else ():
                location = {"field": field, "start": span.start, "end": span.end, "span": text[span.start : span.end]}
                matches.append(self._match(row, span.item, "ngram", span.score) | location)
        return matches

    def match_embeddings(self, row: RecordRow, cosines: np.ndarray) -> list[dict]:
        """Return up to three embedding matches of the row as columns of `Match`, the nearest item first.

        Args:
            row: the row.
            cosines: its cosine to each item, shape (items,).
        """
        # Stable, so that every attempt takes the same items among those of equal cosine: the first ones.
        nearest = np.argsort(-cosines, kind="stable")[:MAX_EMBEDDING_MATCHES]
        matching = [int(position) for position in nearest if cosines[position] >= self.threshold]
        # The vector stands for the whole row, so its match has no position. One insert needs equal keys in all rows.
        no_location = dict.fromkeys(("field", "start", "end", "span"))
        return [
            self._match(row, position, "embedding", float(cosines[position])) | no_location for position in matching
        ]

    def _match(self, row: RecordRow, position: int, kind: str, score: float) -> dict:
        item = self.items[position]
        return {
            "record_id": row.id,
            "set_id": item.set_id,
            "place": item.place,
            "kind": kind,
            "score": round(score, 6),
            "item_text": item.text[:ITEM_TEXT_LENGTH],
        }


def decontaminate(job: RunningJob, pools: Pools) -> None:
    """Search all accepted rows for the items, batch by batch, then report, flag or drop the rows that match.

    Args:
        job: the claimed decontamination. Its earlier matches were deleted, so every attempt begins at the first row.
        pools: the cached pools of this process, with the encoders.

    Raises:
        EncoderMismatch: This worker can't compute vectors that are comparable with those of the dataset.
    """
    with job.transaction() as (session, maintenance_job):
        settings, dataset = maintenance_job.settings, dataset_store.load_dataset(session, maintenance_job.dataset_id)
        maintenance_job.done_rows, maintenance_job.rows = 0, records.count_accepted(session, dataset.id)
        items = list(store.stream_items(session, settings["evaluation_sets"]))
    encoder = pools.prepare(dataset)
    index = EvaluationIndex(items, settings["ngram"], settings["semantic_threshold"], encoder)
    position = 0
    while True:
        job.check()
        position, rows = _match_batch(job, dataset, index, encoder, position)
        if not rows:
            break
    with transaction() as session:
        # The dataset before the job: all transactions take the locks in this order.
        dataset = dataset_store.lock_dataset(session, dataset.id)
        result = _apply_action(job, session, dataset, index)
        # The fence locks the job's row. It comes last, so that a cancel need not wait for the new decisions.
        maintenance_job = job.fence(session)
        maintenance_job.result = result
        job.succeed(session, maintenance_job)


def _match_batch(
    job: RunningJob, dataset: DatasetRow, index: EvaluationIndex, encoder: Encoder, position: int
) -> tuple[int, int]:
    with transaction() as session:
        rows = records.load_accepted(session, dataset.id, position, BATCH_ROWS)
    if not rows:
        return position, 0
    # Outside of any transaction, which would hold a connection while the encoder works.
    matches = [match for row in rows for match in index.match_ngrams(row)]
    if index.vectors is not None and len(index.items):
        cosines = _load_vectors(rows, encoder) @ index.vectors.T
        matches += [
            match for row, line in zip(rows, cosines, strict=True) for match in index.match_embeddings(row, line)
        ]
    with job.transaction() as (session, maintenance_job):
        store.insert_matches(session, [{"maintenance_job_id": maintenance_job.id} | match for match in matches])
        maintenance_job.done_rows += len(rows)
        job.progress(session, maintenance_job, done_rows=maintenance_job.done_rows, rows=maintenance_job.rows)
    return rows[-1].pool_position, len(rows)


def _load_vectors(rows: Sequence[RecordRow], encoder: Encoder) -> np.ndarray:
    """One vector of instruction and input for each row."""
    # The stored embedding covers the instruction alone, so it serves only a row without an input.
    texts = [f"{row.instruction}\n{row.input}" if row.input else row.instruction for row in rows]
    stored = [row.embedding if not row.input else None for row in rows]
    missing = [position for position, vector in enumerate(stored) if vector is None]
    encoded = dict(zip(missing, encoder.encode([texts[n] for n in missing]), strict=True)) if missing else {}
    return np.stack(
        [
            encoded[position] if vector is None else np.frombuffer(vector, dtype=np.float32)
            for position, vector in enumerate(stored)
        ]
    )


def _apply_action(job: RunningJob, session: Session, dataset: DatasetRow, index: EvaluationIndex) -> dict:
    """Report, flag or drop the rows that have matches, and return the result. The dataset is locked."""
    maintenance_job = session.get(MaintenanceJob, job.id)
    strongest = list(store.stream_strongest_matches(session, maintenance_job.id))
    action = maintenance_job.settings["action"]
    if action == "flag":
        for match in strongest:
            records.add_tags(session, match.record_id, {TAG: match.set_id})
    if action == "drop":
        rejections = [NewDecision(match.record_id, _build_rejection(match, maintenance_job)) for match in strongest]
        decisions.apply(session, dataset, _filter_accepted(session, rejections), maintenance_job.id, job.check)
    return {
        "contaminated_rows": len(strongest),
        "by_kind": dict(Counter(match.kind for match in strongest)),
        "by_set": dict(Counter(match.set_id for match in strongest)),
        "items": len(index.items),
        "items_too_short_for_ngrams": index.grams.too_short if index.grams is not None else 0,
        "action": action,
    }


def _filter_accepted(session: Session, rejections: Sequence[NewDecision]) -> list[NewDecision]:
    """The rejections whose row is still accepted: another job may have rejected rows since the search."""
    accepted_ids = records.find_accepted(session, [rejection.record_id for rejection in rejections])
    return [rejection for rejection in rejections if rejection.record_id in accepted_ids]


def _build_rejection(match: Match, maintenance_job: MaintenanceJob) -> Rejection:
    by_ngram = match.kind == "ngram"
    threshold = (
        f"{maintenance_job.settings['ngram']}-gram" if by_ngram else maintenance_job.settings["semantic_threshold"]
    )
    return Rejection(REASON, match.score, threshold, None, match.item_text)


def _list_fields(row: RecordRow) -> list[tuple[str, str]]:
    """The (name, text) of each field to search: the messages of a dialogue, or the texts of a single exchange."""
    if row.messages:
        return [(f"messages/{n}", turn["content"]) for n, turn in enumerate(row.messages)]
    named = ("instruction", "input", "output", "reasoning")
    return [(name, text) for name in named if (text := getattr(row, name))]
