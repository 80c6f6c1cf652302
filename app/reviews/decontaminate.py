"""Looking for evaluation items in a dataset's accepted rows: reported, flagged, or dropped."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from sqlalchemy.orm import Session

from app.datasets import decisions
from app.datasets import store as dataset_store
from app.datasets.decisions import Move
from app.datasets.pools import Pools
from app.db import transaction
from app.jobs.runner import RunningJob
from app.reviews import store
from app.synth.decontaminate import NgramIndex
from app.synth.types import Encoder, Rejection
from app.tables.datasets import Dataset, Record
from app.tables.reviews import EvaluationItem, Match, Review

ROWS_AT_ONCE = 256
NEAREST_OF_A_ROW = 3
ITEM_TEXT_LENGTH = 1000
REASON, TAG = "contaminated", "contaminated"


class Evaluation:
    """The items in the forms in which they are looked for."""

    def __init__(self, items: Sequence[EvaluationItem], ngram: int | None, threshold: float | None, encoder: Encoder):
        self.items, self.threshold = items, threshold
        self.grams = None if ngram is None else NgramIndex(ngram)
        for position, item in enumerate(items):
            if self.grams is not None:
                self.grams.add(position, item.text)
        self.vectors = None
        if threshold is not None:
            self.vectors = encoder.encode([item.text for item in items])

    def by_ngrams(self, row: Record) -> list[dict]:
        found = []
        for field, text in _fields(row):
            for span in self.grams.find(text) if self.grams is not None else ():
                place = {"field": field, "start": span.start, "end": span.end, "span": text[span.start : span.end]}
                found.append(self._match(row, span.item, "ngram", span.score) | place)
        return found

    def by_embedding(self, row: Record, cosines: np.ndarray) -> list[dict]:
        nearest = np.argsort(-cosines, kind="stable")[:NEAREST_OF_A_ROW]
        near = [int(position) for position in nearest if cosines[position] >= self.threshold]
        nothing = dict.fromkeys(("field", "start", "end", "span"))
        return [self._match(row, one, "embedding", float(cosines[one])) | nothing for one in near]

    def _match(self, row: Record, position: int, kind: str, score: float) -> dict:
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
    with job.transaction() as (session, review):
        asked, dataset = review.settings, session.get(Dataset, review.dataset_id)
        review.done_rows, review.rows = 0, store.count_accepted(session, dataset.id)
        items = list(store.items(session, asked["evaluation_sets"]))
    encoder = pools.prepare(dataset)
    evaluation = Evaluation(items, asked["ngram"], asked["semantic_threshold"], encoder)
    seq = 0
    while True:
        job.check()
        seq, rows = _look_at_some(job, dataset, evaluation, encoder, seq)
        if not rows:
            break
    with transaction() as session:
        dataset = dataset_store.lock_dataset(session, dataset.id)
        result = _act(job, session, dataset, evaluation)
        review = job.fence(session)
        review.result = result
        job.succeed(session, review)


def _look_at_some(
    job: RunningJob, dataset: Dataset, evaluation: Evaluation, encoder: Encoder, seq: int
) -> tuple[int, int]:
    with transaction() as session:
        rows = store.accepted(session, dataset.id, seq, ROWS_AT_ONCE)
    if not rows:
        return seq, 0
    found = [match for row in rows for match in evaluation.by_ngrams(row)]
    if evaluation.vectors is not None and len(evaluation.items):
        cosines = _vectors(rows, encoder) @ evaluation.vectors.T
        found += [m for row, line in zip(rows, cosines, strict=True) for m in evaluation.by_embedding(row, line)]
    with job.transaction() as (session, review):
        store.insert_matches(session, [{"review_id": review.id} | match for match in found])
        review.done_rows += len(rows)
        job.progress(session, review, done_rows=review.done_rows, rows=review.rows)
    return rows[-1].seq, len(rows)


def _vectors(rows: Sequence[Record], encoder: Encoder) -> np.ndarray:
    """Of instruction and input. Where there is no input, the stored embedding is just that."""
    texts = [f"{row.instruction}\n{row.input}" if row.input else row.instruction for row in rows]
    stored = [row.embedding if not row.input else None for row in rows]
    missing = [n for n, one in enumerate(stored) if one is None]
    made = dict(zip(missing, encoder.encode([texts[n] for n in missing]), strict=True)) if missing else {}
    return np.stack([made[n] if one is None else np.frombuffer(one, dtype=np.float32) for n, one in enumerate(stored)])


def _act(job: RunningJob, session: Session, dataset: Dataset, evaluation: Evaluation) -> dict:
    """Do what the review is to do with the rows that have matches; its result. The dataset is locked."""
    review = session.get(Review, job.id)
    strongest = list(store.strongest_matches(session, review.id))
    action = review.settings["action"]
    if action == "flag":
        for match in strongest:
            store.tag(session, match.record_id, {TAG: match.set_id})
    if action == "drop":
        moves = [Move(match.record_id, _rejection(match, review)) for match in strongest]
        decisions.apply(session, dataset, _still_in(session, moves), review.id, job.check)
    return {
        "contaminated_rows": len(strongest),
        "by_kind": dict(Counter(match.kind for match in strongest)),
        "by_set": dict(Counter(match.set_id for match in strongest)),
        "items": len(evaluation.items),
        "items_too_short_for_ngrams": evaluation.grams.too_short if evaluation.grams is not None else 0,
        "action": action,
    }


def _still_in(session: Session, moves: Sequence[Move]) -> list[Move]:
    """Another review may have taken a row out meanwhile."""
    return [move for move in moves if session.get(Record, move.record_id).seq is not None]


def _rejection(match: Match, review: Review) -> Rejection:
    by_ngram = match.kind == "ngram"
    threshold = f"{review.settings['ngram']}-gram" if by_ngram else review.settings["semantic_threshold"]
    return Rejection(REASON, match.score, threshold, None, match.item_text)


def _fields(row: Record) -> list[tuple[str, str]]:
    if row.messages:
        return [(f"messages/{n}", turn["content"]) for n, turn in enumerate(row.messages)]
    named = ("instruction", "input", "output", "reasoning")
    return [(name, text) for name in named if (text := getattr(row, name))]
