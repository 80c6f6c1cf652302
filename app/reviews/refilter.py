"""Deciding again on a run's candidates, by other thresholds and rules, without a single call of a teacher."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from pydantic import TypeAdapter
from sqlalchemy.orm import Session

from app.datasets import decisions
from app.datasets import store as dataset_store
from app.datasets.decisions import Move
from app.datasets.pools import Pools
from app.db import transaction
from app.jobs.runner import RunningJob
from app.reviews import store
from app.synth.decide import AdmissionDecider, precheck
from app.synth.filters import RuleSet, rules_of
from app.synth.methods import METHODS
from app.synth.pool import Pool, Thresholds
from app.synth.re_evaluate import may_be_lifted, re_evaluate
from app.synth.types import Candidate, Encoder, Rejection, Turn
from app.tables.datasets import Dataset, Record
from app.tables.reviews import Review
from app.tables.runs import Run

ROWS_AT_ONCE, EXAMPLES = 200, 20
_RULES = TypeAdapter(RuleSet)


@dataclass
class Redecided:
    """What came out: the rows that move, and as of which state of the pool."""

    seen: tuple[int, int]
    moves: list[tuple[Record, Rejection | None]] = field(default_factory=list)
    accepted: int = 0

    def result(self, run: Run, applied: bool) -> dict:
        out = [(row, found) for row, found in self.moves if row.status == "accepted"]
        back = [row for row, found in self.moves if found is None]
        other = [(row, found) for row, found in self.moves if row.status == "rejected" and found is not None]
        return {
            "applied": applied,
            "accepted_before": sum(row.status == "accepted" for row, _ in self.moves) + self.accepted - len(back),
            "accepted_after": self.accepted,
            "moved_out": dict(Counter(found.reason for _, found in out).most_common()),
            "moved_in": dict(Counter(row.reason for row in back).most_common()),
            "other_reason": dict(Counter(f"{row.reason} -> {found.reason}" for row, found in other).most_common()),
            "unanswered": sum(found.reason == "unanswered" for _, found in other),
            "examples": [_example(row, found) for row, found in self.moves[:EXAMPLES]],
        }


def refilter(job: RunningJob, pools: Pools) -> None:
    """Decide again, say what would move, and, when asked to, make it so in one transaction."""
    with transaction() as session:
        review = session.get(Review, job.id)
        run, dataset = session.get(Run, review.run_id), session.get(Dataset, review.dataset_id)
    encoder = pools.prepare(dataset)
    with transaction() as session:
        found = _Redeciding(session, session.get(Dataset, dataset.id), run, review, encoder, job).decide(_progress)
    with transaction() as session:
        if review.settings["apply"]:
            found = _apply(session, review, run, encoder, job, found)
        # Only now: whoever cancels need not wait while the decisions are written.
        review = job.fence(session)
        review.result = found.result(run, review.settings["apply"])
        job.succeed(session, review)


def _apply(
    session: Session, review: Review, run: Run, encoder: Encoder, job: RunningJob, found: Redecided
) -> Redecided:
    """Write the new decisions, as of the pool as it is now."""
    dataset = dataset_store.lock_dataset(session, review.dataset_id)
    if found.seen != (dataset.pool_version, dataset.last_seq):
        # Rows came or left meanwhile: once more, while nobody else can.
        found = _Redeciding(session, dataset, run, review, encoder, job).decide()
    moves = [Move(row.id, rejection) for row, rejection in found.moves]
    decisions.apply(session, dataset, moves, review.id, job.check)
    return found


class _Redeciding:
    def __init__(
        self, session: Session, dataset: Dataset, run: Run, review: Review, encoder: Encoder, job: RunningJob
    ) -> None:
        self.session, self.dataset, self.run, self.encoder, self.job = session, dataset, run, encoder, job
        asked = review.settings
        self.options = METHODS[run.method].options.model_validate(run.options)
        self.rules = None if asked["rules"] is None else rules_of(_RULES.validate_python(asked["rules"]))
        self.least = asked["minimum_scores"]
        self.room = asked["target"] or run.target
        lexical = asked["lexical_threshold"] or dataset.lexical_threshold
        semantic = asked["semantic_threshold"] or dataset.semantic_threshold
        self.thresholds = Thresholds(lexical, semantic)
        self.found = Redecided((dataset.pool_version, dataset.last_seq))

    def decide(self, progress: Callable[[RunningJob, int, int], None] | None = None) -> Redecided:
        rows = store.run_rows(self.session, self.run.id)
        own_ids = {row.id for row in rows}
        self.pool = self._pool_of_others(own_ids)
        self.decider = self._decider(rows, own_ids)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            self.job.check()
            self._decide_some(rows[start : start + ROWS_AT_ONCE])
            if progress is not None:
                progress(self.job, min(start + ROWS_AT_ONCE, len(rows)), len(rows))
        return self.found

    def _pool_of_others(self, own_ids: set[str]) -> Pool:
        pool = Pool(self.thresholds, self.dataset.lexical_mode)
        for entry in dataset_store.pool_entries(self.session, self.dataset, 0):
            if entry.id not in own_ids:
                pool.add(entry.id, entry.text, entry.vector)
        pool.build_indexes()
        return pool

    def _decider(self, rows: list[Record], own_ids: set[str]) -> AdmissionDecider:
        """One decider for the whole run: its rows are judged as the candidates of one batch are."""
        copies: dict[bytes, tuple[str, str]] = {}
        heads: dict[str, str] = {}
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = rows[start : start + ROWS_AT_ONCE]
            hashes = [row.content_hash for row in part]
            copies |= dataset_store.pool_hashes(self.session, self.dataset.id, hashes)
            heads |= dataset_store.head_ids(self.session, self.dataset.id, {row.instruction for row in part})
        return AdmissionDecider(
            self.dataset.scope,
            "generated",
            {key: nearest for key, nearest in copies.items() if nearest[0] not in own_ids},
            {text: id for text, id in heads.items() if id not in own_ids},
            new_id=lambda accepted: self.row_id,
            room=self.room,
            require_output=True,
        )

    def _decide_some(self, rows: list[Record]) -> None:
        candidates = [self._candidate(row) for row in rows]
        texts = [dataset_store.compared_text(self.dataset, row) for row in rows]
        vectors = self._vectors(rows, texts)
        before = precheck(self.pool, candidates, texts, vectors)
        for position, (row, candidate) in enumerate(zip(rows, candidates, strict=True)):
            if row.reason is not None and not may_be_lifted(row.reason):
                continue
            self.row_id = row.id
            rejection = self.decider.decide(candidate, vectors[position], before, position).rejection
            self._count(row, rejection)

    def _candidate(self, row: Record) -> Candidate:
        """The row as it was offered, rejected already where its form or scores no longer do."""
        candidate = Candidate(
            row.instruction,
            row.input,
            row.output,
            scope=row.lineage.get("scope", "instruction"),
            resembles=tuple(row.lineage.get("resembles", ())),
            messages=tuple(Turn(**turn) for turn in row.messages or ()),
            scores=row.scores,
        )
        rejection = re_evaluate(candidate, self.dataset.language, self.options, self.rules, self.least)
        return replace(candidate, rejection=rejection)

    def _count(self, row: Record, found: Rejection | None) -> None:
        self.found.accepted += found is None
        if (row.reason is None) != (found is None) or (found is not None and row.reason != found.reason):
            self.found.moves.append((row, found))

    def _vectors(self, rows: list[Record], texts: list[str]) -> list[np.ndarray | None]:
        missing = {text for row, text in zip(rows, texts, strict=True) if row.embedding is None and text}
        known = dict(zip(missing, self.encoder.encode(list(missing)) if missing else (), strict=True))
        return [
            np.frombuffer(row.embedding, dtype=np.float32) if row.embedding is not None else known.get(text)
            for row, text in zip(rows, texts, strict=True)
        ]


def _example(row: Record, found: Rejection | None) -> dict:
    return {
        "record_id": row.id,
        "instruction": row.instruction[:300],
        "from": row.reason or "accepted",
        "to": found.reason if found else "accepted",
        "value": found.value if found else None,
        "threshold": found.threshold if found else None,
        "nearest_id": found.nearest_id if found else None,
    }


def _progress(job: RunningJob, done: int, rows: int) -> None:
    with job.transaction() as (session, review):
        review.done_rows, review.rows = done, rows
        job.progress(session, review, done_rows=done, rows=rows)
