"""The pool of a dataset's texts: indexes that decide whether a text is new, or a near duplicate of a text in the pool.

A text must be new both lexically and semantically: on 52k real texts the lexical rule alone detected 3,855 duplicates
and the semantic rule alone 1,561.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from app.synth.novelty.lexical import LexicalIndex
from app.synth.novelty.semantic import EXACT_UP_TO, SemanticIndex
from app.synth.text import content_hash
from app.synth.types import Candidate, Rejection

Scope = Literal["instruction", "instruction_input", "row"]
SCOPES: tuple[Scope, ...] = ("instruction", "instruction_input", "row")


@dataclass(frozen=True)
class Thresholds:
    """The limits of novelty: a text above `lexical`, or at or above `semantic`, is a duplicate.

    Attributes:
        lexical: ROUGE-L F1, 0 to 1; 0.7 as in Self-Instruct (Wang et al. 2023, section 2.2).
        semantic: cosine, -1 to 1.
    """

    lexical: float = 0.7
    semantic: float = 0.9


@dataclass(frozen=True)
class PoolNeighbour:
    """A text of the pool with its scores against another: an F1, and a cosine (None without vectors)."""

    id: str
    text: str
    lexical: float
    semantic: float | None


class Pool:
    """Texts under their ids with a lexical and a semantic index, in the order in which they were added.

    A position is the number of a text in this order, from 0. A check with `since` compares only the texts from that
    position on: those before it were compared by an earlier check (`app.synth.decide.Precheck`).

    Args:
        thresholds: above which a text is a duplicate.
        mode: the tokeniser of the lexical index, `unicode` or `paper`.
        exact_up_to: rows up to which the semantic search is exact.
    """

    def __init__(
        self, thresholds: Thresholds | None = None, mode: str = "unicode", exact_up_to: int = EXACT_UP_TO
    ) -> None:
        self.thresholds = thresholds or Thresholds()
        self.mode = mode
        self._lexical = LexicalIndex(mode, self.thresholds.lexical)
        self._semantic = SemanticIndex(exact_up_to)
        self._ids: list[str] = []
        self._texts: list[str] = []
        self._positions: dict[str, int] = {}
        self._text_bytes = 0

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def nbytes(self) -> int:
        """An estimate of the memory in use, in bytes."""
        return self._text_bytes + self._lexical.nbytes + self._semantic.nbytes

    def add(self, id: str, text: str, vector: np.ndarray | None) -> None:
        """Add a text with its unit vector, float32 of shape (dimensions,), or None without an encoder.

        Raises:
            ValueError: the vector has another size than those of the pool. The pool is then unchanged.
        """
        # The semantic index may refuse the vector, so it comes first.
        if vector is not None:
            self._semantic.add(len(self._ids), vector)
        self._positions[id] = self._lexical.add(text)
        self._ids.append(id)
        self._texts.append(text)
        # An estimate: the objects of id and text, and their entries in two lists and a dict.
        self._text_bytes += 350 + 2 * len(text)

    def build_indexes(self) -> None:
        """Rebuild both indexes for speed after many rows were added.

        In a large pool this takes minutes, so call it outside of a request.
        """
        self._lexical.reorder()
        self._semantic.build_graph()

    def check_lexical(self, text: str, excluding: Collection[str] = (), since: int = 0) -> Rejection | None:
        """Check a text by the lexical index alone.

        Args:
            text: the text to check.
            excluding: ids of rows that the text may resemble.
            since: the first position that is compared.

        Returns:
            A `duplicate_lexical` rejection with the nearest row, or None when the text is new.
        """
        match = self._lexical.nearest(text, self._positions_of(excluding), since)
        if match is None:
            return None
        position = match.position
        return Rejection(
            "duplicate_lexical", match.score, self.thresholds.lexical, self._ids[position], self._texts[position]
        )

    def check(
        self, text: str, vector: np.ndarray | None, excluding: Collection[str] = (), since: int = 0
    ) -> Rejection | None:
        """Check a text by both indexes.

        Args:
            text: the text to check.
            vector: its unit vector, float32 of shape (dimensions,), or None without an encoder.
            excluding: ids of rows that the text may resemble.
            since: the first position that is compared.

        Returns:
            The rejection with the nearest row, or None when the text is new.
        """
        return self.check_all([text], [vector], [excluding], since)[0]

    def check_all(
        self,
        texts: Sequence[str],
        vectors: Sequence[np.ndarray | None],
        excluding: Sequence[Collection[str]],
        since: int = 0,
    ) -> list[Rejection | None]:
        """Check each text against the pool, not against each other, with one matrix product for all.

        Args:
            texts: the texts to check.
            vectors: a unit vector or None for each text.
            excluding: for each text the ids of rows that it may resemble.
            since: the first position that is compared.

        Returns:
            For each text its rejection, or None when the text is new.
        """
        # The lexical check is the cheaper one, so only texts that pass it are compared by vectors.
        rejections = [
            self.check_lexical(text, excluded, since) for text, excluded in zip(texts, excluding, strict=True)
        ]
        unmatched = [n for n, rejection in enumerate(rejections) if rejection is None and vectors[n] is not None]
        if not unmatched:
            return rejections
        excluded = [self._positions_of(excluding[n]) for n in unmatched]
        nearest = self._semantic.nearest(np.stack([vectors[n] for n in unmatched]), excluded, since)
        for n, neighbour in zip(unmatched, nearest, strict=True):
            if neighbour is not None and neighbour.score >= self.thresholds.semantic:
                id, text = self._ids[neighbour.position], self._texts[neighbour.position]
                rejections[n] = Rejection("duplicate_semantic", neighbour.score, self.thresholds.semantic, id, text)
        return rejections

    def neighbours(
        self, text: str, vector: np.ndarray | None, max_count: int, excluding: Collection[str] = ()
    ) -> list[PoolNeighbour]:
        """Return the nearest rows by the higher of both scores, best first.

        Args:
            text: the query.
            vector: its unit vector, or None without an encoder.
            max_count: the maximum of rows.
            excluding: ids of rows that are left out.
        """
        # Excluded rows are dropped below, so as many more are fetched.
        count = max_count + len(excluding)
        positions = [match.position for match in self._lexical.k_nearest(text, count)]
        if vector is not None:
            positions += [neighbour.position for neighbour in self._semantic.k_nearest(vector, count)]
        positions = [position for position in dict.fromkeys(positions) if self._ids[position] not in excluding]
        lexical = self._lexical.scores(text, positions)
        semantic = np.full(len(positions), np.nan) if vector is None else self._semantic.scores(vector, positions)
        # fmax ignores nan: a row without a vector is ranked by its lexical score.
        order = np.argsort(-np.fmax(lexical, semantic), kind="stable")[:max_count]
        return [
            PoolNeighbour(
                self._ids[positions[n]],
                self._texts[positions[n]],
                float(lexical[n]),
                None if np.isnan(semantic[n]) else float(semantic[n]),
            )
            for n in order
        ]

    def _positions_of(self, ids: Collection[str]) -> list[int]:
        return [self._positions[id] for id in ids if id in self._positions]


def comparison_text(scope: Scope, candidate: Candidate) -> str:
    """Return the text by which a row is compared with others: the fields of the scope, each on a line of its own."""
    parts = [candidate.instruction]
    if scope != "instruction":
        parts.append(candidate.input)
    if scope == "row":
        # The first turn of a dialogue is its instruction, which is compared already.
        parts += [turn.content for turn in candidate.messages[1:]] if candidate.messages else [candidate.output]
    return "\n".join(part for part in parts if part)


def identity(candidate: Candidate, scope: Scope = "instruction") -> bytes:
    """Return the hash (32 bytes) by which exact copies are recognised: of instruction and input, or of the whole row.

    Args:
        candidate: the row. The whole row is hashed when its own scope is `row`: it shares its instruction on purpose.
        scope: the scope of the dataset. The whole row is hashed when it is `row`.
    """
    if candidate.scope == "instruction" and scope != "row":
        return content_hash(candidate.instruction, candidate.input)
    # Rows that share an instruction on purpose differ by their outputs or turns.
    turns = (f"{turn.role} {turn.content}" for turn in candidate.messages)
    return content_hash(candidate.instruction, candidate.input, candidate.output, *turns)
