"""Cosine similarity between unit vectors and a pool: exact by blocked matrix products, approximate above a size.

Above `exact_up_to` rows the nearest are looked for in a usearch graph (HNSW, Malkov and Yashunin 2018), and what it
finds is scored again from the vectors themselves: its scores are exact, and it may miss a row now and then.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

EXACT_UP_TO = 200_000
_BLOCK = 8192
# Above any rounding of a float32 product of unit vectors: hits this close to the best are scored again in float64.
_ROUNDING = 1e-5
_HITS, _EXPANSION = 24, 96
# Rows added by several threads to a graph that is still small can end up where no search comes to.
_ALONE = 4096


@dataclass(frozen=True)
class Neighbour:
    """A row of the pool, by the place under which it was added, and its cosine."""

    place: int
    score: float


class SemanticIndex:
    """Unit vectors under growing places, float32: 1.5 KB a row at 384 dimensions, and half as much for the graph."""

    def __init__(self, exact_up_to: int = EXACT_UP_TO, block: int = _BLOCK):
        self.exact_up_to, self._block = exact_up_to, block
        self.dimensions: int | None = None
        self._blocks: list[np.ndarray] = []
        self._places = np.empty(64, dtype=np.int64)
        self._size = 0
        self._graph = None

    def __len__(self) -> int:
        return self._size

    @property
    def nbytes(self) -> int:
        """An estimate of the memory held."""
        return sum(block.nbytes for block in self._blocks) + (self._graph.memory_usage if self._graph else 0)

    def add(self, place: int, vector: np.ndarray) -> None:
        """`vector`: float32 of shape (dimensions,). Raises ValueError for one of another size."""
        self._check(vector)
        block, row = divmod(self._size, self._block)
        if block == len(self._blocks):
            # The first block starts small: most pools are.
            self._blocks.append(
                np.empty((self._block if block else min(64, self._block), len(vector)), dtype=np.float32)
            )
        elif row == len(self._blocks[block]):
            more = np.empty((min(row, self._block - row), len(vector)), dtype=np.float32)
            self._blocks[block] = np.concatenate([self._blocks[block], more])
        self._blocks[block][row] = vector
        if self._size == len(self._places):
            self._places = np.concatenate([self._places, np.empty_like(self._places)])
        self._places[self._size] = place
        self._size += 1
        if self._graph is not None:
            self._graph.add(self._size - 1, vector)

    def nearest(
        self, vectors: np.ndarray, excluding: Sequence[Collection[int]] = (), since: int = 0
    ) -> list[Neighbour | None]:
        """For each row of `vectors` (queries, dimensions) the most similar row; None when none is left.

        `excluding`: for each query the places that are passed over; `since`: places before it are, for all.
        """
        vectors = np.atleast_2d(vectors)
        first = int(np.searchsorted(self._places[: self._size], since))
        if first == self._size:
            return [None] * len(vectors)
        self._check(vectors[0])
        without = [self._rows(places) for places in excluding] or [()] * len(vectors)
        if self._graph is not None and self._size - first > self._block:
            return self._approximate(vectors, without, first)
        return self._exact(vectors, without, first)

    def scores(self, vector: np.ndarray, places: Sequence[int]) -> np.ndarray:
        """The cosine with each of these places; nan for one without a vector."""
        found = np.full(len(places), np.nan)
        for position, place in enumerate(places):
            rows = self._rows([place])
            if rows:
                found[position] = _cosine(self._row(rows[0]), vector)
        return found

    def similar(self, vector: np.ndarray, most: int) -> list[Neighbour]:
        """The `most` nearest rows, nearest first, compared with all."""
        if not self._size:
            return []
        self._check(vector)
        scores = np.concatenate([block @ vector for _, block in self._filled()])
        nearest = np.argsort(-scores, kind="stable")[:most]
        return [Neighbour(int(self._places[row]), _cosine(self._row(row), vector)) for row in nearest]

    def build(self) -> None:
        """Make the graph when the pool has outgrown `exact_up_to`. It takes minutes in a large pool."""
        if self._graph is not None or self._size <= self.exact_up_to:
            return
        # Only pools of this size need it.
        from usearch.index import Index

        graph = Index(ndim=self.dimensions, metric="ip", dtype="bf16", expansion_search=_EXPANSION)
        for start, block in self._filled():
            graph.add(np.arange(start, start + len(block)), block, threads=1 if start < _ALONE else 0)
        self._graph = graph

    def _exact(self, vectors: np.ndarray, without: Sequence[Collection[int]], first: int) -> list[Neighbour | None]:
        best = np.full(len(vectors), -np.inf)
        close: list[list[tuple[int, float]]] = [[] for _ in vectors]
        for start, block in self._filled(first):
            scores = vectors @ block.T
            for query, rows in enumerate(without):
                inside = [row - start for row in rows if start <= row < start + len(block)]
                scores[query, inside] = -np.inf
            top = scores.max(axis=1)
            for query in np.flatnonzero(top >= best - _ROUNDING):
                best[query] = max(best[query], top[query])
                rows = np.flatnonzero(scores[query] >= best[query] - _ROUNDING)
                close[query] += [(start + int(row), float(scores[query, row])) for row in rows[:_HITS]]
        return [self._best(vector, hits, top) for vector, hits, top in zip(vectors, close, best, strict=True)]

    def _approximate(
        self, vectors: np.ndarray, without: Sequence[Collection[int]], first: int
    ) -> list[Neighbour | None]:
        found: list[Neighbour | None] = []
        for vector, rows in zip(vectors, without, strict=True):
            hits = self._graph.search(vector, _HITS + min(len(rows), 4 * _HITS)).keys
            left = [(int(row), 0.0) for row in hits if row >= first and int(row) not in rows]
            found.append(self._best(vector, left, 0.0))
        return found

    def _best(self, vector: np.ndarray, hits: Sequence[tuple[int, float]], top: float) -> Neighbour | None:
        """The best of the hits that are as good as the top one but for rounding; the oldest of equal ones."""
        left = [row for row, score in hits if score >= top - _ROUNDING]
        if not left or top == -np.inf:
            return None
        score, row = max((_cosine(self._row(row), vector), -row) for row in left)
        return Neighbour(int(self._places[-row]), score)

    def _filled(self, first: int = 0):
        """(row, vectors) from the row `first` on, block by block."""
        for start in range(first - first % self._block, self._size, self._block):
            block = self._blocks[start // self._block][: self._size - start]
            yield max(start, first), block[max(0, first - start) :]

    def _row(self, row: int) -> np.ndarray:
        return self._blocks[row // self._block][row % self._block]

    def _rows(self, places: Collection[int]) -> list[int]:
        """The rows of these places; those that have none don't matter."""
        if not places:
            return []
        wanted = np.fromiter(places, dtype=np.int64)
        rows = np.searchsorted(self._places[: self._size], wanted)
        return [int(r) for r, p in zip(rows, wanted, strict=True) if r < self._size and self._places[r] == p]

    def _check(self, vector: np.ndarray) -> None:
        if self.dimensions is None:
            self.dimensions = len(vector)
        if vector.shape != (self.dimensions,):
            raise ValueError(f"a vector of shape {vector.shape} in a pool of {self.dimensions} dimensions")


def _cosine(one: np.ndarray, two: np.ndarray) -> float:
    """In float64, so that the decision doesn't hang on how many queries were asked at once; 1.0 for equal vectors."""
    a, b = one.astype(np.float64), two.astype(np.float64)
    norms = math.sqrt((a @ a) * (b @ b))
    return float(a @ b) / norms if norms else 0.0
