"""Decides again on the candidates of a run, with other thresholds and rules and without any teacher call."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from pydantic import TypeAdapter
from sqlalchemy.orm import Session

from app.datasets import run_rows
from app.datasets import store as dataset_store
from app.datasets.decisions import NewDecision
from app.datasets.pools import Pools
from app.datasets.rows import DatasetRow, RecordRow
from app.jobs.runner import RunningJob
from app.persistence.db import transaction
from app.runs import decisions
from app.runs import store as run_store
from app.runs.rows import RunRow
from app.synth.decide import AdmissionDecider, precheck
from app.synth.methods.registry import METHODS
from app.synth.novelty.pool import Pool, Thresholds
from app.synth.quality.filters import RuleSet, rules_of
from app.synth.quality.re_evaluate import may_be_lifted, re_evaluate
from app.synth.types import Candidate, Encoder, Rejection, Turn
from app.tables.maintenance import MaintenanceJob

# Between two batches the job sees a cancel and reports its progress.
BATCH_ROWS = 200
# The counts cover all rows; the examples are for people to judge the new rules by.
MAX_EXAMPLES = 20
_RULES = TypeAdapter(RuleSet)


@dataclass
class ChangedDecisions:
    """The rows whose decision changes.

    Attributes:
        pool_state: the version and the last position of the pool with which the rows were compared.
        rows: (row, new rejection) of each such row; None where the row is accepted now.
        accepted: how many rows of the run are accepted by the new decisions, changed or not.
    """

    pool_state: tuple[int, int]
    rows: list[tuple[RecordRow, Rejection | None]] = field(default_factory=list)
    accepted: int = 0

    def build_result(self, applied: bool) -> dict:
        """Return the `result` of the maintenance job: counts by reason, and the first rows as examples.

        Args:
            applied: whether the decisions are written.
        """
        moved_out = [(row, rejection) for row, rejection in self.rows if row.status == "accepted"]
        moved_in = [row for row, rejection in self.rows if rejection is None]
        other = [(row, rejection) for row, rejection in self.rows if row.status == "rejected" and rejection is not None]
        return {
            "applied": applied,
            "accepted_before": len(moved_out) + self.accepted - len(moved_in),
            "accepted_after": self.accepted,
            "moved_out": dict(Counter(rejection.reason for _, rejection in moved_out).most_common()),
            "moved_in": dict(Counter(row.reason for row in moved_in).most_common()),
            "other_reason": dict(
                Counter(f"{row.reason} -> {rejection.reason}" for row, rejection in other).most_common()
            ),
            "unanswered": sum(rejection.reason == "unanswered" for _, rejection in other),
            "examples": [_build_example(row, rejection) for row, rejection in self.rows[:MAX_EXAMPLES]],
        }


def refilter(job: RunningJob, pools: Pools) -> None:
    """Decide again and report which decisions would change. With `apply`, also write them, in one transaction.

    Args:
        job: the claimed refilter.
        pools: the cached pools of this process, with the encoders.

    Raises:
        EncoderMismatch: This worker can't compute vectors that are comparable with those of the dataset.
    """
    with transaction() as session:
        maintenance_job = session.get(MaintenanceJob, job.id)
        run = run_store.load_run(session, maintenance_job.run_id)
        dataset = dataset_store.load_dataset(session, maintenance_job.dataset_id)
    encoder = pools.prepare(dataset)
    with transaction() as session:
        # Without the lock: this pass may take minutes, and workers can admit rows meanwhile (docs/adr/0010).
        changed = _RunReEvaluation(
            session, dataset_store.load_dataset(session, dataset.id), run, maintenance_job, encoder, job
        ).decide(_report_progress)
    with transaction() as session:
        if maintenance_job.settings["apply"]:
            changed = _apply(session, maintenance_job, run, encoder, job, changed)
        # The fence locks the job's row. It comes last, so that a cancel need not wait for the writing above.
        maintenance_job = job.fence(session)
        maintenance_job.result = changed.build_result(maintenance_job.settings["apply"])
        job.succeed(session, maintenance_job)


def _apply(
    session: Session,
    maintenance_job: MaintenanceJob,
    run: RunRow,
    encoder: Encoder,
    job: RunningJob,
    prepared: ChangedDecisions,
) -> ChangedDecisions:
    """Write the new decisions to the locked dataset, and return those that were written."""
    dataset = dataset_store.lock_dataset(session, maintenance_job.dataset_id)
    if prepared.pool_state != (dataset.pool_version, dataset.last_pool_position):
        # The pool has changed since the first pass, so those decisions may be wrong. The lock keeps it as it is now.
        prepared = _RunReEvaluation(session, dataset, run, maintenance_job, encoder, job).decide()
    new_decisions = [NewDecision(row.id, rejection) for row, rejection in prepared.rows]
    decisions.apply(session, dataset, new_decisions, maintenance_job.id, job.check)
    return prepared


class _RunReEvaluation:
    """Decides again on all candidates of a run, as if the run offered them now under the job's settings."""

    def __init__(
        self,
        session: Session,
        dataset: DatasetRow,
        run: RunRow,
        maintenance_job: MaintenanceJob,
        encoder: Encoder,
        job: RunningJob,
    ) -> None:
        self.session, self.dataset, self.run, self.encoder, self.job = session, dataset, run, encoder, job
        settings = maintenance_job.settings
        self.options = METHODS[run.method].options.model_validate(run.options)
        self.rules = None if settings["rules"] is None else rules_of(_RULES.validate_python(settings["rules"]))
        self.min_scores = settings["minimum_scores"]
        # A setting that is not given stays what the run or the dataset has: only the given ones are in question.
        self.target = settings["target"] or run.target
        lexical = settings["lexical_threshold"] or dataset.lexical_threshold
        semantic = settings["semantic_threshold"] or dataset.semantic_threshold
        self.thresholds = Thresholds(lexical, semantic)
        self.changed = ChangedDecisions((dataset.pool_version, dataset.last_pool_position))

    def decide(self, progress: Callable[[RunningJob, int, int], None] | None = None) -> ChangedDecisions:
        """Return the changed decisions.

        Args:
            progress: called after each batch as `progress(job, done rows, rows)`; None reports no progress.
        """
        rows = run_rows.load_with_embeddings(self.session, self.run.id)
        own_ids = {row.id for row in rows}
        self.pool = self._build_pool_without(own_ids)
        self.decider = self._build_decider(rows, own_ids)
        for start in range(0, len(rows), BATCH_ROWS):
            self.job.check()
            self._decide_batch(rows[start : start + BATCH_ROWS])
            if progress is not None:
                progress(self.job, min(start + BATCH_ROWS, len(rows)), len(rows))
        return self.changed

    def _build_pool_without(self, own_ids: set[str]) -> Pool:
        """The pool with the job's thresholds and without the run's rows, which would be duplicates of themselves."""
        # Not the cached pool of the process: that one has the thresholds of the dataset, and the run's rows.
        pool = Pool(self.thresholds, self.dataset.lexical_mode)
        for entry in dataset_store.stream_pool_entries(self.session, self.dataset, 0):
            if entry.id not in own_ids:
                pool.add(entry.id, entry.text, entry.vector)
        pool.build_indexes()
        return pool

    def _build_decider(self, rows: list[RecordRow], own_ids: set[str]) -> AdmissionDecider:
        """One decider for the whole run: its rows are judged as the candidates of one batch are."""
        copies: dict[bytes, tuple[str, str]] = {}
        representatives: dict[str, str] = {}
        for start in range(0, len(rows), BATCH_ROWS):
            batch = rows[start : start + BATCH_ROWS]
            hashes = [row.content_hash for row in batch]
            copies |= dataset_store.find_copies(self.session, self.dataset.id, hashes)
            representatives |= dataset_store.representative_ids(
                self.session, self.dataset.id, {row.instruction for row in batch}
            )
        return AdmissionDecider(
            self.dataset.scope,
            "generated",
            {key: nearest for key, nearest in copies.items() if nearest[0] not in own_ids},
            {text: id for text, id in representatives.items() if id not in own_ids},
            new_id=lambda accepted: self.row_id,
            room=self.target,
            require_output=True,
        )

    def _decide_batch(self, rows: list[RecordRow]) -> None:
        candidates = [self._build_candidate(row) for row in rows]
        texts = [dataset_store.compared_text(self.dataset, row) for row in rows]
        vectors = self._load_vectors(rows, texts)
        prechecks = precheck(self.pool, candidates, texts, vectors)
        for position, (row, candidate) in enumerate(zip(rows, candidates, strict=True)):
            # A rejection such as a failed reply has nothing to do with rules; no other rule can lift it.
            if row.reason is not None and not may_be_lifted(row.reason):
                continue
            self.row_id = row.id
            rejection = self.decider.decide(candidate, vectors[position], prechecks, position).rejection
            self._record_decision(row, rejection)

    def _build_candidate(self, row: RecordRow) -> Candidate:
        """The row as it was offered, with a rejection where the new rules or minimum scores reject it."""
        candidate = Candidate(
            row.instruction,
            row.input,
            row.output,
            scope=row.lineage.get("scope", "instruction"),
            resembles=tuple(row.lineage.get("resembles", ())),
            messages=tuple(Turn(**turn) for turn in row.messages or ()),
            scores=row.scores,
        )
        rejection = re_evaluate(candidate, self.dataset.language, self.options, self.rules, self.min_scores)
        return replace(candidate, rejection=rejection)

    def _record_decision(self, row: RecordRow, rejection: Rejection | None) -> None:
        self.changed.accepted += rejection is None
        if (row.reason is None) != (rejection is None) or (rejection is not None and row.reason != rejection.reason):
            self.changed.rows.append((row, rejection))

    def _load_vectors(self, rows: list[RecordRow], texts: list[str]) -> list[np.ndarray | None]:
        # Only rows without a stored vector are encoded: an encoder takes far longer than a read.
        missing = {text for row, text in zip(rows, texts, strict=True) if row.embedding is None and text}
        encoded = dict(zip(missing, self.encoder.encode(list(missing)) if missing else (), strict=True))
        return [
            np.frombuffer(row.embedding, dtype=np.float32) if row.embedding is not None else encoded.get(text)
            for row, text in zip(rows, texts, strict=True)
        ]


def _build_example(row: RecordRow, rejection: Rejection | None) -> dict:
    return {
        "record_id": row.id,
        "instruction": row.instruction[:300],
        "from": row.reason or "accepted",
        "to": rejection.reason if rejection else "accepted",
        "value": rejection.value if rejection else None,
        "threshold": rejection.threshold if rejection else None,
        "nearest_id": rejection.nearest_id if rejection else None,
    }


def _report_progress(job: RunningJob, done: int, rows: int) -> None:
    with job.transaction() as (session, maintenance_job):
        maintenance_job.done_rows, maintenance_job.rows = done, rows
        job.progress(session, maintenance_job, done_rows=done, rows=rows)
