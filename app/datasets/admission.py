"""What enters a dataset is decided here, once, under the dataset's lock.

The caller opens the transaction, so that its own counters and state move in the same commit.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from sqlalchemy.orm import Session

from app.datasets import store
from app.datasets.pools import Looked
from app.ids import new_id
from app.synth.pool import comparison_text, identity
from app.synth.text import storable
from app.synth.types import Candidate, Pair, Rejection
from app.tables.datasets import Dataset

NEAREST_TEXT_LENGTH = 2000


@dataclass(frozen=True)
class Origin:
    """Where the candidates come from; goes into each row."""

    kind: str
    run_id: str | None = None
    batch_id: str | None = None
    import_id: str | None = None
    method: str | None = None
    teacher: str | None = None


@dataclass
class Outcome:
    accepted: int = 0
    families: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    @property
    def offered(self) -> int:
        return self.accepted + self.rejected.total()


def admit(
    session: Session,
    dataset: Dataset,
    candidates: Sequence[Candidate],
    vectors: Sequence[np.ndarray | None],
    origin: Origin,
    looked: Looked | None,
    room: int | None = None,
) -> Outcome:
    """Decide on every candidate in order, and store each with its decision.

    `dataset` is locked by the caller (Pools.offering, which gives `looked`, too). `vectors` has one unit vector a
    candidate, None for one that has no text or is not encoded yet. `looked` is None where no pool is held. Of seeds,
    which a person chose, only exact copies are refused. At most `room` are accepted; the rest are `surplus`.
    """
    deciding = _Deciding(session, dataset, origin, looked, room)
    deciding.load_pool(candidates)
    for place, (candidate, vector) in enumerate(zip(candidates, vectors, strict=True)):
        deciding.decide(place, candidate, vector)
    store.insert_records(session, deciding.rows)
    store.insert_preferences(session, deciding.pairs)
    dataset.rejected_count += deciding.outcome.rejected.total()
    if origin.kind == "seed":
        dataset.seed_count += deciding.outcome.families
    else:
        dataset.accepted_count += deciding.outcome.accepted
    dataset.simulated = dataset.simulated or any(row["simulated"] for row in deciding.rows)
    return deciding.outcome


class _Deciding:
    """The state of one admission: the copies known, the families judged, the rows to insert."""

    def __init__(
        self, session: Session, dataset: Dataset, origin: Origin, looked: Looked | None, room: int | None
    ) -> None:
        self.session, self.dataset, self.origin, self.looked, self.room = session, dataset, origin, looked, room
        self.outcome = Outcome()
        self.rows: list[dict] = []
        self.pairs: list[dict] = []
        # Candidates' own names -> the ids of their rows, so that a child can name a parent of its proposal.
        self.names: dict[str, str] = {}
        # Instruction text -> the head of its family in the pool, for rows that join one on purpose.
        self.heads: dict[str, str] = {}
        self.copies: dict[bytes, tuple[str, str]] = {}
        # Instruction text -> the head's id when it was accepted, or why it was not.
        self.families: dict[str, str | Rejection] = {}

    def load_pool(self, candidates: Sequence[Candidate]) -> None:
        fresh = [c for c in candidates if c.rejection is None]
        self.copies = store.pool_hashes(self.session, self.dataset.id, [self._identity(c) for c in fresh])
        joining = self.origin.kind == "imported" or self.dataset.scope != "instruction"
        wanted = {c.instruction for c in fresh if joining or c.scope == "row"}
        # What a row was near to while both were in flight may have its own row by now.
        rejections = [c.rejection for c in candidates if c.rejection is not None]
        wanted |= {one.nearest_text for one in rejections if one.nearest_text and one.nearest_id is None}
        self.heads = store.head_ids(self.session, self.dataset.id, wanted)

    def decide(self, place: int, candidate: Candidate, vector: np.ndarray | None) -> None:
        id = new_id("rec")
        if candidate.name:
            self.names[candidate.name] = id
        found = candidate.rejection or self._copy(candidate) or self._known(place, candidate, vector)
        if found is None and self.room is not None and self.outcome.accepted >= self.room:
            found = Rejection("surplus")
        if found is None:
            self._accept(id, candidate, vector)
        else:
            self.outcome.rejected[found.reason] += 1
            row = self._row(id, replace(candidate, rejection=found), id)
            self.rows.append(row | {"embedding": None if vector is None else vector.tobytes()})

    def _identity(self, candidate: Candidate) -> bytes:
        return identity(candidate, self.dataset.scope)

    def _copy(self, candidate: Candidate) -> Rejection | None:
        nearest = self.copies.get(self._identity(candidate))
        return Rejection("duplicate_exact", 1.0, 1.0, *nearest) if nearest else None

    def _known(self, place: int, candidate: Candidate, vector: np.ndarray | None) -> Rejection | None:
        """A family is judged once, by its first row; its later rows follow.

        Existing data joins the family of its instruction, whenever that came: thousands of inputs may stand
        under one. A newly generated instruction that is in the pool already is a duplicate.
        """
        if candidate.scope == "row" or self.looked is None or self.origin.kind == "seed":
            return None
        judged = self.families.get(candidate.instruction)
        if isinstance(judged, Rejection):
            return judged
        if judged is not None or (self.origin.kind == "imported" and candidate.instruction in self.heads):
            return None
        found = self.looked.found[place] or self.looked.pool.check(
            comparison_text(self.dataset.scope, candidate), vector, self._ids(candidate.resembles), self.looked.since
        )
        if found is not None and self.dataset.scope == "instruction":
            self.families[candidate.instruction] = found
        return found

    def _ids(self, given: Sequence[str]) -> list[str]:
        return [self.names.get(one, one) for one in given]

    def _accept(self, id: str, candidate: Candidate, vector: np.ndarray | None) -> None:
        text = candidate.instruction
        head = self.families.setdefault(text, self.heads.get(text, id))
        entry = head == id or self.dataset.scope != "instruction"
        if entry and self.looked is not None:
            self.looked.pool.add(id, comparison_text(self.dataset.scope, candidate), vector)
        self.dataset.last_seq += 1
        self.outcome.accepted += 1
        self.outcome.families += head == id
        row = self._row(id, candidate, head)
        row |= {"seq": self.dataset.last_seq, "status": "accepted"}
        row["embedding"] = vector.tobytes() if entry and vector is not None else None
        self.copies[row["content_hash"]] = (id, text)
        self.rows.append(row)
        self.pairs += [self._pair(id, pair) for pair in candidate.pairs]

    def _pair(self, record_id: str, pair: Pair) -> dict:
        return {"id": new_id("pref"), "dataset_id": self.dataset.id, "record_id": record_id} | asdict(pair)

    def _nearest_id(self, found: Rejection) -> str | None:
        known = self.families.get(found.nearest_text)
        return found.nearest_id or (known if isinstance(known, str) else self.heads.get(found.nearest_text))

    def _row(self, id: str, candidate: Candidate, family: str) -> dict:
        found = candidate.rejection
        return {
            "id": id,
            "dataset_id": self.dataset.id,
            "origin": self.origin.kind,
            "status": "rejected" if found else "accepted",
            "seq": None,
            "family": family,
            "instruction": candidate.instruction,
            "input": candidate.input,
            "output": candidate.output,
            "is_classification": candidate.is_classification,
            "language": self.dataset.language,
            "messages": [asdict(turn) for turn in candidate.messages] or None,
            "reasoning": candidate.reasoning,
            "content_hash": self._identity(candidate),
            "embedding": None,
            "simulated": candidate.simulated,
            "reason": found.reason if found else None,
            "detail": storable({"value": found.value, "threshold": found.threshold}) if found else None,
            "nearest_id": self._nearest_id(found) if found else None,
            "nearest_text": (found.nearest_text or "")[:NEAREST_TEXT_LENGTH] or None if found else None,
            "run_id": self.origin.run_id,
            "batch_id": self.origin.batch_id,
            "import_id": self.origin.import_id,
            "method": self.origin.method,
            "operation": candidate.operation,
            "round": candidate.round,
            "teacher": self.origin.teacher,
            "scores": candidate.scores,
            # What a judge or a quotation says came from a teacher, and is not cleaned like a row's own texts.
            "tags": storable(candidate.tags),
            "source": storable(candidate.source),
            "lineage": {
                "parents": self._ids(candidate.parents),
                "scope": candidate.scope,
                "resembles": self._ids(candidate.resembles),
                "completions": list(candidate.completions),
                "templates": list(candidate.templates),
            },
        }
