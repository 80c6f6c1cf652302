"""Admission: decide on candidates and store them with their decisions, under the dataset's lock.

The caller opens the transaction, so that its own counters and state move in the same commit.
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
from app.synth.types import Candidate
from app.tables.datasets import Dataset

NEAREST_TEXT_LENGTH = 2000


@dataclass(frozen=True)
class Origin:
    """Where the candidates come from. Each stored row has these values."""

    kind: OriginKind
    run_id: str | None = None
    batch_id: str | None = None
    import_id: str | None = None
    method: str | None = None
    teacher: str | None = None


@dataclass
class Outcome:
    """How many candidates were accepted, and how many were rejected for each reason."""

    accepted: int = 0
    groups: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def count(self, decision: Decision) -> None:
        if decision.rejection is not None:
            self.rejected[decision.rejection.reason] += 1
        else:
            self.accepted += 1
            self.groups += decision.group_id == decision.id

    @property
    def offered(self) -> int:
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

    `dataset` is locked by the caller (Pools.offering, which gives `precheck`, too). `vectors` has one unit vector a
    candidate, None for one that has no text or is not encoded yet. `precheck` is None where no pool is loaded. Seeds
    were chosen by a person, so only exact copies of seeds are rejected. At most `room` candidates are accepted; the
    rest are rejected as `over_target`.
    """
    decider = _load_decider(session, dataset, candidates, origin, room)
    outcome, rows, pairs = Outcome(), [], []
    for position, (candidate, vector) in enumerate(zip(candidates, vectors, strict=True)):
        decision = decider.decide(candidate, vector, precheck, position)
        outcome.count(decision)
        row = _row(dataset, origin, candidate, decision)
        # A rejected row keeps its vector, because people ask for its neighbours, too.
        keeps_vector = decision.enters_index or decision.rejection is not None
        row["embedding"] = vector.tobytes() if keeps_vector and vector is not None else None
        if decision.rejection is None:
            dataset.last_pool_position += 1
            row["pool_position"] = dataset.last_pool_position
            pairs += [_pair(dataset, decision.id, asdict(pair)) for pair in candidate.pairs]
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
    """The decider, with those rows of the pool that the decisions on these candidates need."""
    admissible = [c for c in candidates if c.rejection is None]
    copies = store.pool_hashes(session, dataset.id, [identity(c, dataset.scope) for c in admissible])
    joining = origin.kind == "imported" or dataset.scope != "instruction"
    instructions = {c.instruction for c in admissible if joining or c.scope == "row" or c.resembles}
    rejections = [c.rejection for c in candidates if c.rejection is not None]
    instructions |= {r.nearest_text for r in rejections if r.nearest_text and r.nearest_id is None}
    representatives = store.representative_ids(session, dataset.id, instructions)
    return AdmissionDecider(dataset.scope, origin.kind, copies, representatives, lambda accepted: new_id("rec"), room)


def _pair(dataset: Dataset, record_id: str, pair: dict) -> dict:
    return {"id": new_id("pref"), "dataset_id": dataset.id, "record_id": record_id} | pair


def _row(dataset: Dataset, origin: Origin, candidate: Candidate, decision: Decision) -> dict:
    rejection = decision.rejection
    return {
        "id": decision.id,
        "dataset_id": dataset.id,
        "origin": origin.kind,
        "status": "rejected" if rejection else "accepted",
        "pool_position": None,
        "group_id": decision.group_id,
        "instruction": candidate.instruction,
        "input": candidate.input,
        "output": candidate.output,
        "is_classification": candidate.is_classification,
        "language": dataset.language,
        "messages": [asdict(turn) for turn in candidate.messages] or None,
        "reasoning": candidate.reasoning,
        "thought": candidate.thought,
        "content_hash": decision.identity,
        "embedding": None,
        "simulated": candidate.simulated,
        "reason": rejection.reason if rejection else None,
        "detail": storable({"value": rejection.value, "threshold": rejection.threshold}) if rejection else None,
        "nearest_id": rejection.nearest_id if rejection else None,
        "nearest_text": (rejection.nearest_text or "")[:NEAREST_TEXT_LENGTH] or None if rejection else None,
        "run_id": origin.run_id,
        "batch_id": origin.batch_id,
        "import_id": origin.import_id,
        "method": origin.method,
        "operation": candidate.operation,
        "round": candidate.round,
        "teacher": origin.teacher,
        "scores": candidate.scores,
        # Tags and source hold text of a teacher that no filter has cleaned, so it may have characters that
        # Postgres refuses.
        "tags": storable(candidate.tags),
        "source": storable(candidate.source),
        "lineage": {
            "parents": list(decision.parents),
            "scope": candidate.scope,
            "resembles": list(decision.resembles),
            "completions": list(candidate.completions),
            "templates": list(candidate.templates),
        },
    }
