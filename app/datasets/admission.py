"""Admission: decides on candidates and stores them with their decisions, under the dataset's lock.

The caller opens the transaction, so that its own counters and status change in the same commit: after a crash the rows
and the counts still agree.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from sqlalchemy.orm import Session

from app.datasets import store
from app.persistence.ids import new_id
from app.synth.decide import AdmissionDecider, Decision, OriginKind, Precheck
from app.synth.novelty.pool import identity
from app.synth.text import storable
from app.synth.types import Candidate, Rejection
from app.tables.datasets import Dataset

# A text may have 100,000 characters, and each rejected duplicate stores a copy of its nearest text for the API.
NEAREST_TEXT_LENGTH = 2000


@dataclass(frozen=True)
class Origin:
    """Where the candidates come from: a run, an import, or the seeds of a dataset. Each stored row has these values.

    `kind` also decides what is compared (`AdmissionDecider`).
    """

    kind: OriginKind
    run_id: str | None = None
    batch_id: str | None = None
    import_id: str | None = None
    method: str | None = None
    teacher: str | None = None


@dataclass
class Outcome:
    """How many candidates were accepted, how many groups they began, and how many were rejected for each reason."""

    accepted: int = 0
    groups: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def add(self, decision: Decision) -> None:
        """Count one decision."""
        if decision.rejection is not None:
            self.rejected[decision.rejection.reason] += 1
        else:
            self.accepted += 1
            self.groups += decision.group_id == decision.id

    @property
    def offered(self) -> int:
        """How many candidates were decided on."""
        return self.accepted + self.rejected.total()


def admit(
    session: Session,
    dataset: Dataset,
    candidates: Sequence[Candidate],
    vectors: Sequence[np.ndarray | None],
    origin: Origin,
    precheck: Precheck | None,
    room: int | None = None,
) -> Outcome:
    """Decide on every candidate in order, and store each with its decision.

    A person has chosen the seeds, so only exact copies of seeds are rejected.

    Args:
        session: the caller's transaction.
        dataset: the dataset, locked by the caller (`Pools.precheck_and_lock`). Its counters and last position change.
        candidates: the rows; those that are rejected already are stored with their rejection.
        vectors: a unit vector for each candidate, None for a candidate that has no text or is not encoded yet.
        origin: where the candidates come from.
        precheck: their comparison with the pool from before the lock; None where no pool is loaded.
        room: the maximum of candidates to accept. The others are rejected as `over_target`.

    Returns:
        The counts, which the caller adds to those of its run or import.
    """
    decider = _load_decider(session, dataset, candidates, origin, room)
    outcome, rows, pairs = Outcome(), [], []
    for position, (candidate, vector) in enumerate(zip(candidates, vectors, strict=True)):
        decision = decider.decide(candidate, vector, precheck, position)
        outcome.add(decision)
        row = _build_record(dataset, origin, candidate, decision)
        # Only rows that are compared with later rows need a vector, and rejected rows, whose nearest records the API
        # shows.
        needs_vector = decision.enters_index or decision.rejection is not None
        row["embedding"] = vector.tobytes() if needs_vector and vector is not None else None
        if decision.rejection is None:
            dataset.last_pool_position += 1
            row["pool_position"] = dataset.last_pool_position
            pairs += [_build_pair(dataset, decision.id, asdict(pair)) for pair in candidate.pairs]
        rows.append(row)
    store.insert_records(session, rows)
    store.insert_preferences(session, pairs)
    dataset.rejected_count += outcome.rejected.total()
    if origin.kind == "seed":
        dataset.seed_count += outcome.groups
    else:
        dataset.accepted_count += outcome.accepted
    dataset.simulated = dataset.simulated or any(row["simulated"] for row in rows)
    return outcome


def _load_decider(
    session: Session, dataset: Dataset, candidates: Sequence[Candidate], origin: Origin, room: int | None
) -> AdmissionDecider:
    """Load the rows of the pool that the decisions on these candidates need: the pool as a whole may be large.

    These are exact copies of the candidates, and representatives of the groups that the candidates may belong to.
    """
    admissible = [c for c in candidates if c.rejection is None]
    copies = store.find_copies(session, dataset.id, [identity(c, dataset.scope) for c in admissible])
    joins_groups = origin.kind == "imported" or dataset.scope != "instruction"
    instructions = {c.instruction for c in admissible if joins_groups or c.scope == "row" or c.resembles}
    # The prefilter may have rejected a candidate because of a text that another batch was paying for. That text may be
    # a record by now, whose id the rejection should name.
    rejections = [c.rejection for c in candidates if c.rejection is not None]
    instructions |= {r.nearest_text for r in rejections if r.nearest_text and r.nearest_id is None}
    representatives = store.representative_ids(session, dataset.id, instructions)
    return AdmissionDecider(dataset.scope, origin.kind, copies, representatives, lambda accepted: new_id("rec"), room)


def _build_pair(dataset: Dataset, record_id: str, pair: dict) -> dict:
    return {"id": new_id("pref"), "dataset_id": dataset.id, "record_id": record_id} | pair


def _build_record(dataset: Dataset, origin: Origin, candidate: Candidate, decision: Decision) -> dict:
    """Return the columns of the record. All rows have the same keys, since one statement inserts them."""
    return {
        "id": decision.id,
        "dataset_id": dataset.id,
        "group_id": decision.group_id,
        "content_hash": decision.identity,
        "pool_position": None,
        "embedding": None,
        **_origin_columns(origin),
        **_content_columns(candidate),
        "language": dataset.language,
        **decision_columns(decision.rejection),
        "lineage": _build_lineage(candidate, decision),
    }


def _origin_columns(origin: Origin) -> dict:
    return {
        "origin": origin.kind,
        "run_id": origin.run_id,
        "batch_id": origin.batch_id,
        "import_id": origin.import_id,
        "method": origin.method,
        "teacher": origin.teacher,
    }


def _content_columns(candidate: Candidate) -> dict:
    return {
        "instruction": candidate.instruction,
        "input": candidate.input,
        "output": candidate.output,
        "is_classification": candidate.is_classification,
        "messages": [asdict(turn) for turn in candidate.messages] or None,
        "reasoning": candidate.reasoning,
        "thought": candidate.thought,
        "simulated": candidate.simulated,
        "operation": candidate.operation,
        "round": candidate.round,
        "scores": candidate.scores,
        # Tags and source hold text of a teacher that no filter has cleaned, so it may have characters that
        # Postgres refuses.
        "tags": storable(candidate.tags),
        "source": storable(candidate.source),
    }


def decision_columns(rejection: Rejection | None) -> dict:
    """Return the columns of a record that say how it was decided: `rejection` is None for an accepted record."""
    if rejection is None:
        return {"status": "accepted", "reason": None, "detail": None, "nearest_id": None, "nearest_text": None}
    return {
        "status": "rejected",
        "reason": rejection.reason,
        "detail": storable({"value": rejection.value, "threshold": rejection.threshold}),
        "nearest_id": rejection.nearest_id,
        "nearest_text": (rejection.nearest_text or "")[:NEAREST_TEXT_LENGTH] or None,
    }


def _build_lineage(candidate: Candidate, decision: Decision) -> dict:
    """Return what the row was made from, and its scope and `resembles`, which a later decision on the row needs."""
    return {
        "parents": list(decision.parents),
        "scope": candidate.scope,
        "resembles": list(decision.resembles),
        "completions": list(candidate.completions),
        "templates": list(candidate.templates),
    }
