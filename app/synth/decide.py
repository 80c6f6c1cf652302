"""The one decision on what enters a pool: for the service under its dataset's lock, for a notebook in memory.

Pure: what is in the pool already comes in, a decision on each candidate comes out. Whoever calls it loads and stores.
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
    """What the pool said of the candidates before its lock was held: entries from `since` on are newer.

    A rejection stands, since a pool only grows; an acceptance is checked again, against the newer entries alone.
    """

    pool: Pool
    since: int
    rejections: list[Rejection | None]


def precheck(
    pool: Pool, candidates: Sequence[Candidate], texts: Sequence[str], vectors: Sequence[np.ndarray | None]
) -> Precheck:
    """Compare all candidates with the pool at once, by one matrix product.

    `texts`: what each candidate is compared by. Candidates that are rejected already, or whose scope is their own
    row, are not compared and get None.
    """
    positions = [n for n, c in enumerate(candidates) if c.rejection is None and c.scope == "instruction"]
    rejections: list[Rejection | None] = [None] * len(candidates)
    answers = pool.check_all(
        [texts[n] for n in positions], [vectors[n] for n in positions], [candidates[n].resembles for n in positions]
    )
    for n, answer in zip(positions, answers, strict=True):
        rejections[n] = answer
    return Precheck(pool, len(pool), rejections)


@dataclass(frozen=True)
class Decision:
    """What was decided on one candidate: it is accepted when `rejection` is None.

    `group_id`: the id of the representative of its group, its own where it has none or begins one. `enters_index`:
    whether its text is one that later candidates are compared with. `parents` and `resembles` are the candidate's,
    with the names of earlier candidates as the ids of their rows.
    """

    id: str
    group_id: str
    identity: bytes
    rejection: Rejection | None
    enters_index: bool
    parents: tuple[str, ...]
    resembles: tuple[str, ...]


class AdmissionDecider:
    """Decides candidate after candidate, in order; each may be a duplicate of those before it.

    `copies`: (id, instruction) of the pool's rows by their identities, at least of those that candidates may have.
    `representatives`: ids of the representatives of the pool's groups by their instructions, at least for rows that
    join a group on purpose, for rows that may resemble others, and for the nearest texts of candidates rejected
    before. Both are kept up to date as candidates are accepted. `room`: how many are accepted at most; the rest are
    `surplus`.
    `require_output`: reject what has no output as `unanswered`. `new_id(accepted)` names each decided row.
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
        # Names that candidates give themselves -> the ids of their rows, so that a child can name its parent.
        self._ids: dict[str, str] = {}
        # Instruction -> why its group was rejected, or None: one of its rows was accepted here.
        self._groups: dict[str, Rejection | None] = {}
        self._seed_representatives: dict[str, str] = {}

    def decide(
        self, candidate: Candidate, vector: np.ndarray | None, precheck: Precheck | None = None, position: int = 0
    ) -> Decision:
        """Decide on one candidate. `position`: its place in `precheck`, which is None where no pool is held."""
        key = identity(candidate, self.scope)
        rejection = (
            candidate.rejection or self._copy(key) or self._near_duplicate(candidate, vector, precheck, position)
        )
        if rejection is None and self.require_output and not candidate.output:
            rejection = Rejection("unanswered")
        if rejection is None and self.room is not None and self.accepted >= self.room:
            rejection = Rejection("surplus")
        id = self.new_id(rejection is None)
        parents, resembles = self._resolve(candidate.parents), self._resolve(candidate.resembles)
        if candidate.name:
            self._ids[candidate.name] = id
        if rejection is not None:
            return Decision(id, id, key, self._with_nearest_id(rejection), False, parents, resembles)
        group_id, enters_index = self._accept(id, key, candidate, vector, precheck)
        return Decision(id, group_id, key, None, enters_index, parents, resembles)

    def _copy(self, key: bytes) -> Rejection | None:
        nearest = self.copies.get(key)
        return Rejection("duplicate_exact", 1.0, 1.0, *nearest) if nearest else None

    def _near_duplicate(
        self, candidate: Candidate, vector: np.ndarray | None, precheck: Precheck | None, position: int
    ) -> Rejection | None:
        """A group is judged once, by its first row; its later rows follow.

        Existing data joins the group of its instruction, whenever that came: thousands of inputs may stand
        under one. A newly generated instruction that is in the pool already is a duplicate.
        """
        text = candidate.instruction
        if candidate.scope == "row" or precheck is None or self.origin == "seed":
            return None
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
            # A person's seed is one of the seeds, whatever the pool holds: it joins only those it came with.
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
        """What a row was near to while both were in flight may have its own row by now."""
        if rejection.nearest_id is not None or not rejection.nearest_text:
            return rejection
        return replace(rejection, nearest_id=self.representatives.get(rejection.nearest_text))


@dataclass
class InMemoryPool:
    """A whole pool in memory with the decisions on what enters it: the notebook's counterpart of a dataset."""

    scope: Scope = "instruction"
    thresholds: Thresholds = field(default_factory=Thresholds)
    mode: str = "unicode"
    copies: dict[bytes, tuple[str, str]] = field(default_factory=dict)
    representatives: dict[str, str] = field(default_factory=dict)
    accepted: int = 0
    rejected: int = 0

    def __post_init__(self) -> None:
        self.index = Pool(self.thresholds, self.mode)

    def enter(self, id: str, row: Candidate, vector: np.ndarray | None) -> None:
        """Put in a row that is not decided on: a seed, or a record that was accepted elsewhere."""
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

        Ids: `row-N` counts the accepted rows from 0, `rejected-N` the others.
        """
        texts = [comparison_text(self.scope, candidate) for candidate in candidates]
        before = precheck(self.index, candidates, texts, vectors)
        decider = AdmissionDecider(self.scope, origin, self.copies, self.representatives, self._new_id, room)
        return [
            decider.decide(candidate, vector, before, position)
            for position, (candidate, vector) in enumerate(zip(candidates, vectors, strict=True))
        ]

    def _new_id(self, accepted: bool) -> str:
        if accepted:
            self.accepted += 1
            return f"row-{self.accepted - 1}"
        self.rejected += 1
        return f"rejected-{self.rejected - 1}"
