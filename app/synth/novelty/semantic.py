"""Cosine similarity between unit vectors and a pool: exact by blocked matrix products, approximate in a large pool.

Above `exact_up_to` rows a usearch graph (HNSW, Malkov and Yashunin 2018) proposes neighbours, and their scores are
computed again from the vectors. The scores are therefore exact, but the graph may miss a neighbour.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

# Up to this number of rows the exact search is used, which misses no neighbour.
EXACT_UP_TO = 200_000
_BLOCK = 8192
# More than the rounding error of a float32 product of unit vectors: hits this close to the best are scored again
# in float64, so that rounding never decides which one wins.
_ROUNDING = 1e-5
_GRAPH_HITS, _GRAPH_EXPANSION = 24, 96
# Several threads that add to a small graph can leave rows unreachable, so the first rows are added by one thread.
_SINGLE_THREAD_UP_TO = 4096


@dataclass(frozen=True)
class Neighbour:
    """The position under which a row was added, and its cosine, -1 to 1."""

    position: int
    score: float


class SemanticIndex:
    """Unit vectors, each added under a position higher than the last.

    Memory: float32, 1.5 KB a row at 384 dimensions, and half as much again for the graph.

    Args:
        exact_up_to: rows up to which every search is exact.
        block: rows of one allocation, and of one matrix product.
    """

    def __init__(self, exact_up_to: int = EXACT_UP_TO, block: int = _BLOCK):
        self.exact_up_to, self._block = exact_up_to, block
        self.dimensions: int | None = None
        self._blocks: list[np.ndarray] = []
        self._positions = np.empty(64, dtype=np.int64)
        self._size = 0
        self._graph = None

    def __len__(self) -> int:
        return self._size

    @property
    def nbytes(self) -> int:
        """An estimate of the memory in use, in bytes."""
        return sum(block.nbytes for block in self._blocks) + (self._graph.memory_usage if self._graph else 0)

    def add(self, position: int, vector: np.ndarray) -> None:
        """Add a unit vector under a position.

        Args:
            position: higher than the positions before.
            vector: float32 of shape (dimensions,).

        Raises:
            ValueError: the vector has another size than those of the index.
        """
        self._check_shape(vector)
        block, row = divmod(self._size, self._block)
        if block == len(self._blocks):
            # The first block starts small because most pools stay small.
            self._blocks.append(
                np.empty((self._block if block else min(64, self._block), len(vector)), dtype=np.float32)
            )
        elif row == len(self._blocks[block]):
            larger = np.empty((min(row, self._block - row), len(vector)), dtype=np.float32)
            self._blocks[block] = np.concatenate([self._blocks[block], larger])
        self._blocks[block][row] = vector
        if self._size == len(self._positions):
            self._positions = np.concatenate([self._positions, np.empty_like(self._positions)])
        self._positions[self._size] = position
        self._size += 1
        if self._graph is not None:
            self._graph.add(self._size - 1, vector)

    def nearest(
        self, vectors: np.ndarray, excluding: Sequence[Collection[int]] = (), since: int = 0
    ) -> list[Neighbour | None]:
        """Return the most similar row for each query; None where every row is excluded.

        Args:
            vectors: unit queries of shape (queries, dimensions) or (dimensions,).
            excluding: for each query the positions that are not compared.
            since: the first position that is compared, for all queries.

        Raises:
            ValueError: the queries have another number of dimensions than the rows.
        """
        # Positions ascend, so the entries since a position are the last rows.
        vectors = np.atleast_2d(vectors)
        first = int(np.searchsorted(self._positions[: self._size], since))
        if first == self._size:
            return [None] * len(vectors)
        self._check_shape(vectors[0])
        excluded_rows = [self._rows_of(positions) for positions in excluding] or [()] * len(vectors)
        if self._graph is not None and self._size - first > self._block:
            return self._search_graph(vectors, excluded_rows, first)
        return self._search_exactly(vectors, excluded_rows, first)

    def scores(self, vector: np.ndarray, positions: Sequence[int]) -> np.ndarray:
        """Return the cosine with the row at each position, float64; nan where a position has no vector."""
        scores = np.full(len(positions), np.nan)
        for n, position in enumerate(positions):
            rows = self._rows_of([position])
            if rows:
                scores[n] = _cosine(self._row(rows[0]), vector)
        return scores

    def k_nearest(self, vector: np.ndarray, k: int) -> list[Neighbour]:
        """Return the k rows with the highest cosine, best first. Compares with the whole pool."""
        if not self._size:
            return []
        self._check_shape(vector)
        scores = np.concatenate([block @ vector for _, block in self._iterate_blocks()])
        nearest = np.argsort(-scores, kind="stable")[:k]
        return [Neighbour(int(self._positions[row]), _cosine(self._row(row), vector)) for row in nearest]

    def build_graph(self) -> None:
        """Build the graph once the pool has more than `exact_up_to` rows. In a large pool this takes minutes."""
        if self._graph is not None or self._size <= self.exact_up_to:
            return
        # Imported late: usearch is needed by large pools alone.
        from usearch.index import Index

        graph = Index(ndim=self.dimensions, metric="ip", dtype="bf16", expansion_search=_GRAPH_EXPANSION)
        for start, block in self._iterate_blocks():
            graph.add(np.arange(start, start + len(block)), block, threads=1 if start < _SINGLE_THREAD_UP_TO else 0)
        # Assigned when complete, so that a search never meets half a graph.
        self._graph = graph

    def _search_exactly(
        self, vectors: np.ndarray, excluded_rows: Sequence[Collection[int]], first: int
    ) -> list[Neighbour | None]:
        best = np.full(len(vectors), -np.inf)
        candidates: list[list[tuple[int, float]]] = [[] for _ in vectors]
        for start, block in self._iterate_blocks(first):
            scores = vectors @ block.T
            # A query is usually near to the rows that it grew from, which must not hide the next nearest ones.
            for query, rows in enumerate(excluded_rows):
                inside = [row - start for row in rows if start <= row < start + len(block)]
                scores[query, inside] = -np.inf
            top = scores.max(axis=1)
            for query in np.flatnonzero(top >= best - _ROUNDING):
                best[query] = max(best[query], top[query])
                # Every near-tie is kept: only float64 can tell which of them is the best.
                rows = np.flatnonzero(scores[query] >= best[query] - _ROUNDING)
                candidates[query] += [(start + int(row), float(scores[query, row])) for row in rows[:_GRAPH_HITS]]
        return [self._pick_best(vector, hits, top) for vector, hits, top in zip(vectors, candidates, best, strict=True)]

    def _search_graph(
        self, vectors: np.ndarray, excluded_rows: Sequence[Collection[int]], first: int
    ) -> list[Neighbour | None]:
        neighbours: list[Neighbour | None] = []
        for vector, rows in zip(vectors, excluded_rows, strict=True):
            # Excluded rows may fill the first hits, so the search asks for as many more.
            hits = self._graph.search(vector, _GRAPH_HITS + min(len(rows), 4 * _GRAPH_HITS)).keys
            candidates = [(int(row), 0.0) for row in hits if row >= first and int(row) not in rows]
            neighbours.append(self._pick_best(vector, candidates, 0.0))
        return neighbours

    def _pick_best(self, vector: np.ndarray, hits: Sequence[tuple[int, float]], top: float) -> Neighbour | None:
        """Return the best of the hits within rounding error of the top score; the oldest wins a tie."""
        candidates = [row for row, score in hits if score >= top - _ROUNDING]
        if not candidates or top == -np.inf:
            return None
        score, row = max((_cosine(self._row(row), vector), -row) for row in candidates)
        return Neighbour(int(self._positions[-row]), score)

    def _iterate_blocks(self, first: int = 0):
        """(first row, vectors) of each block, from the row `first` on."""
        for start in range(first - first % self._block, self._size, self._block):
            block = self._blocks[start // self._block][: self._size - start]
            yield max(start, first), block[max(0, first - start) :]

    def _row(self, row: int) -> np.ndarray:
        return self._blocks[row // self._block][row % self._block]

    def _rows_of(self, positions: Collection[int]) -> list[int]:
        """Return the rows at these positions. Positions without a vector are skipped."""
        if not positions:
            return []
        requested = np.fromiter(positions, dtype=np.int64)
        rows = np.searchsorted(self._positions[: self._size], requested)
        return [
            int(row)
            for row, position in zip(rows, requested, strict=True)
            if row < self._size and self._positions[row] == position
        ]

    def _check_shape(self, vector: np.ndarray) -> None:
        if self.dimensions is None:
            self.dimensions = len(vector)
        if vector.shape != (self.dimensions,):
            raise ValueError(f"a vector of shape {vector.shape} in a pool of {self.dimensions} dimensions")


def _cosine(first: np.ndarray, second: np.ndarray) -> float:
    """Return the cosine, 1.0 for equal vectors.

    It is computed in float64, so that it does not depend on how many queries share one matrix product.
    """
    a, b = first.astype(np.float64), second.astype(np.float64)
    norms = math.sqrt((a @ a) * (b @ b))
    return float(a @ b) / norms if norms else 0.0
