"""Decides which candidates enter a pool: for the service under its dataset's lock, for a notebook in memory.

Nothing here reads or writes a database: the caller loads the content of the pool that a decision needs, and stores the
decisions. Rows of one instruction are a group; its representative is the first of them, whose text is compared.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from app.synth.novelty.pool import Pool, Scope, Thresholds, comparison_text, identity
from app.synth.types import Candidate, Rejection

OriginKind = Literal["seed", "generated", "imported"]


@dataclass(frozen=True)
class Precheck:
    """The comparison of candidates with the pool before its lock was held.

    A rejection remains valid, since rows are only added to a pool object. A candidate that passed is compared again
    under the lock, only with the entries that were added since.

    Attributes:
        since: the number of entries that were compared; entries from this position on are newer.
        rejections: for each candidate its rejection or None.
    """

    pool: Pool
    since: int
    rejections: list[Rejection | None]


def precheck(
    pool: Pool, candidates: Sequence[Candidate], texts: Sequence[str], vectors: Sequence[np.ndarray | None]
) -> Precheck:
    """Compare all candidates with the pool at once, by one matrix product.

    Candidates that are rejected already, or whose scope is their own row, are not compared and get None.

    Args:
        pool: the pool at this moment.
        candidates: the rows of one batch.
        texts: the text by which each candidate is compared.
        vectors: unit vectors of the texts, float32 of shape (dimensions,), or None.
    """
    positions = [n for n, c in enumerate(candidates) if c.rejection is None and c.scope == "instruction"]
    rejections: list[Rejection | None] = [None] * len(candidates)
    results = pool.check_all(
        [texts[n] for n in positions], [vectors[n] for n in positions], [candidates[n].resembles for n in positions]
    )
    for n, rejection in zip(positions, results, strict=True):
        rejections[n] = rejection
    return Precheck(pool, len(pool), rejections)


@dataclass(frozen=True)
class Decision:
    """The decision on one candidate, which is accepted when `rejection` is None.

    Attributes:
        id: the id of the new row.
        group_id: the id of the representative of its group; its own where it has none or begins one.
        identity: the hash of its content, 32 bytes.
        enters_index: whether later candidates are compared with its text.
        parents: those of the candidate, with names of earlier candidates replaced by the ids of their rows.
        resembles: the same for the rows that it may be near to.
    """

    id: str
    group_id: str
    identity: bytes
    rejection: Rejection | None
    enters_index: bool
    parents: tuple[str, ...]
    resembles: tuple[str, ...]


class AdmissionDecider:
    """Decides on candidates in their order; each may be a duplicate of those before it.

    Args:
        scope: which fields of rows are compared.
        origin: where the candidates come from.
        copies: (id, instruction) of rows of the pool by their identities: at least of the rows that have the identity
            of a candidate.
        representatives: ids of the representatives of the pool's groups by their instructions, at least for rows that
            join a group on purpose, for rows that may resemble others, and for the nearest texts of candidates
            rejected before. This mapping and `copies` are updated as candidates are accepted.
        new_id: `new_id(is_accepted)` returns the id of a new row.
        room: the maximum of accepted rows; the others are rejected as `over_target`.
        require_output: reject a row without an output as `unanswered`.
    """

    def __init__(
        self,
        scope: Scope,
        origin: OriginKind,
        copies: dict[bytes, tuple[str, str]],
        representatives: dict[str, str],
        new_id: Callable[[bool], str],
        room: int | None = None,
        require_output: bool = False,
    ) -> None:
        self.scope, self.origin, self.copies, self.representatives = scope, origin, copies, representatives
        self.new_id, self.room, self.require_output = new_id, room, require_output
        self.accepted = 0
        # From names of candidates to the ids of their rows, so that a child can name its parent.
        self._ids: dict[str, str] = {}
        # From instructions to the rejection of their groups; None where one of the rows was accepted.
        self._groups: dict[str, Rejection | None] = {}
        self._seed_representatives: dict[str, str] = {}

    def decide(
        self, candidate: Candidate, vector: np.ndarray | None, precheck: Precheck | None = None, position: int = 0
    ) -> Decision:
        """Decide on one candidate.

        Args:
            candidate: the row. One that the method has rejected keeps its rejection, and gets an id.
            vector: the unit vector of its text, or None without an encoder.
            precheck: the comparison of the batch with the pool; None where no pool is loaded, so that only exact copies
                are rejected.
            position: the index of the candidate in `precheck`.
        """
        # An exact copy is found by one look-up, so this comes before the comparison of texts.
        key = identity(candidate, self.scope)
        rejection = (
            candidate.rejection
            or self._find_copy(key)
            or self._find_near_duplicate(candidate, vector, precheck, position)
        )
        if rejection is None and self.require_output and not candidate.output:
            rejection = Rejection("unanswered")
        if rejection is None and self.room is not None and self.accepted >= self.room:
            rejection = Rejection("over_target")
        id = self.new_id(rejection is None)
        parents, resembles = self._resolve(candidate.parents), self._resolve(candidate.resembles)
        if candidate.name:
            self._ids[candidate.name] = id
        if rejection is not None:
            return Decision(id, id, key, self._with_nearest_id(rejection), False, parents, resembles)
        group_id, enters_index = self._accept(id, key, candidate, vector, precheck)
        return Decision(id, group_id, key, None, enters_index, parents, resembles)

    def _find_copy(self, key: bytes) -> Rejection | None:
        nearest = self.copies.get(key)
        return Rejection("duplicate_exact", 1.0, 1.0, *nearest) if nearest else None

    def _find_near_duplicate(
        self, candidate: Candidate, vector: np.ndarray | None, precheck: Precheck | None, position: int
    ) -> Rejection | None:
        """Return the rejection of a near duplicate. A group is decided once, by its first row.

        Imported rows join the group of their instruction, which may have thousands of inputs. A newly generated
        instruction that is in the pool already is a duplicate. Seeds, and rows that share an instruction on purpose,
        are not compared.
        """
        text = candidate.instruction
        if candidate.scope == "row" or precheck is None or self.origin == "seed":
            return None
        # The decision on the first row of a group holds for the others: thousands of inputs cost one comparison.
        if text in self._groups:
            return self._groups[text]
        if self.origin == "imported" and text in self.representatives:
            return None
        rejection = precheck.rejections[position] or precheck.pool.check(
            comparison_text(self.scope, candidate), vector, self._resolve(candidate.resembles), precheck.since
        )
        if rejection is not None and self.scope == "instruction":
            self._groups[text] = rejection
        return rejection

    def _accept(
        self, id: str, key: bytes, candidate: Candidate, vector: np.ndarray | None, precheck: Precheck | None
    ) -> tuple[str, bool]:
        text = candidate.instruction
        self._groups.setdefault(text, None)
        representative = self.representatives.setdefault(text, id)
        if self.origin == "seed":
            # A seed joins only the group of another seed of the same upload. In the group of a generated row it would
            # no longer be drawn as a seed.
            representative = self._seed_representatives.setdefault(text, id)
        enters_index = representative == id or self.scope != "instruction"
        if enters_index and precheck is not None:
            precheck.pool.add(id, comparison_text(self.scope, candidate), vector)
        self.accepted += 1
        self.copies[key] = (id, text)
        return representative, enters_index

    def _resolve(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(self._ids.get(name, name) for name in names)

    def _with_nearest_id(self, rejection: Rejection) -> Rejection:
        """Return the rejection with the id of the nearest text, which had no record when the prefilter rejected."""
        if rejection.nearest_id is not None or not rejection.nearest_text:
            return rejection
        return replace(rejection, nearest_id=self.representatives.get(rejection.nearest_text))


@dataclass
class InMemoryPool:
    """A pool in memory with the decisions on which rows enter it: a dataset for a notebook."""

    scope: Scope = "instruction"
    thresholds: Thresholds = field(default_factory=Thresholds)
    mode: str = "unicode"
    copies: dict[bytes, tuple[str, str]] = field(default_factory=dict)
    representatives: dict[str, str] = field(default_factory=dict)
    accepted: int = 0
    rejected: int = 0

    def __post_init__(self) -> None:
        self.index = Pool(self.thresholds, self.mode)

    def add_existing(self, id: str, row: Candidate, vector: np.ndarray | None) -> None:
        """Add a row without a decision: a seed, or a record that was accepted elsewhere."""
        self.copies.setdefault(identity(row, self.scope), (id, row.instruction))
        if self.representatives.setdefault(row.instruction, id) == id or self.scope != "instruction":
            self.index.add(id, comparison_text(self.scope, row), vector)

    def admit(
        self,
        candidates: Sequence[Candidate],
        vectors: Sequence[np.ndarray | None],
        room: int | None = None,
        origin: OriginKind = "generated",
    ) -> list[Decision]:
        """Decide on the candidates of one batch in their order. Accepted ones are in the pool afterwards.

        Args:
            candidates: the rows of the batch.
            vectors: the unit vector of each row's text, or None.
            room: the maximum of rows to accept; None is no maximum.
            origin: where the rows come from.

        Returns:
            A decision for each candidate. The ids `row-N` count accepted rows from 0, `rejected-N` the others.
        """
        texts = [comparison_text(self.scope, candidate) for candidate in candidates]
        # All against the pool at once, by one matrix product; the decider compares them with each other one by one.
        prechecked = precheck(self.index, candidates, texts, vectors)
        decider = AdmissionDecider(self.scope, origin, self.copies, self.representatives, self._new_id, room)
        return [
            decider.decide(candidate, vector, prechecked, position)
            for position, (candidate, vector) in enumerate(zip(candidates, vectors, strict=True))
        ]

    def _new_id(self, accepted: bool) -> str:
        if accepted:
            self.accepted += 1
            return f"row-{self.accepted - 1}"
        self.rejected += 1
        return f"rejected-{self.rejected - 1}"
