"""Exact cosine similarity between unit vectors and a pool: one matrix product."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Neighbour:
    id: str
    score: float


class SemanticIndex:
    """Unit vectors under their ids, float32. The matrix doubles when full: 1.5 KB a row at 384 dimensions."""

    def __init__(self):
        self._ids: list[str] = []
        self._places: dict[str, int] = {}
        self._matrix: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, id: str, vector: np.ndarray) -> None:
        """`vector`: float32 of shape (dimensions,). Raises ValueError for one of another size."""
        if self._matrix is None:
            self._matrix = np.empty((64, len(vector)), dtype=np.float32)
        self._check(vector)
        if len(self._ids) == len(self._matrix):
            self._matrix = np.concatenate([self._matrix, np.empty_like(self._matrix)])
        self._matrix[len(self._ids)] = vector
        self._places[id] = len(self._ids)
        self._ids.append(id)

    def nearest(self, vector: np.ndarray, excluding: Collection[str] = ()) -> Neighbour | None:
        """The most similar row, the ids `excluding` passed over; None when no row is left."""
        if not self._ids:
            return None
        self._check(vector)
        scores = self._matrix[: len(self._ids)] @ vector
        scores[[self._places[id] for id in excluding if id in self._places]] = -np.inf
        best = int(scores.argmax())
        if scores[best] == -np.inf:
            return None
        return Neighbour(self._ids[best], float(scores[best]))

    def _check(self, vector: np.ndarray) -> None:
        if self._matrix is not None and vector.shape != self._matrix.shape[1:]:
            raise ValueError(f"a vector of shape {vector.shape} in a pool of {self._matrix.shape[1]} dimensions")
