"""Selection of a subset of rows: the best, the best that differ, or the most representative. Deterministic."""

import heapq
from collections.abc import Sequence

import numpy as np

# Rows of one block of similarities: 2,048 rows by 100,000 columns of float32 take 0.8 GB.
BLOCK = 2048


def top_k(scores: Sequence[float], k: int) -> list[int]:
    """Return the indices of the k highest scores, best first; the earlier row wins a tie.

    Args:
        scores: one score for each row.
        k: how many rows are selected, 1 to the number of rows.

    Raises:
        ValueError: k is out of range, or a score is not finite.
    """
    values = _finite_array(scores, "scores")
    _check_k(k, len(values))
    return [int(index) for index in np.argsort(-values, kind="stable")[:k]]


def quality_complexity(
    quality: Sequence[float], complexity: Sequence[float], vectors: np.ndarray, k: int, max_similarity: float = 0.9
) -> list[int]:
    """DEITA's selection (Liu et al. 2024, section 2.4): by quality x complexity, without near-duplicates.

    Args:
        quality: one score for each row.
        complexity: one score for each row.
        vectors: unit rows of shape (n, dimensions).
        k: the maximum of rows.
        max_similarity: a row is skipped when its cosine to any selected row is above this.

    Returns:
        Up to k indices, best first.

    Raises:
        ValueError: k is out of range, a value is not finite, or the vectors have another shape.
    """
    # A product, as in DEITA, favours rows that are good in both respects.
    values = _finite_array(quality, "quality") * _finite_array(complexity, "complexity")
    _check_k(k, len(values))
    _check_vectors(vectors, len(values))
    selected: list[int] = []
    selected_vectors = np.empty((k, vectors.shape[1]), dtype=np.float32)
    for index in np.argsort(-values, kind="stable"):
        if len(selected) == k:
            break
        # The comparison needs vectors of the selected rows alone, never the whole matrix of similarities.
        if selected and float((selected_vectors[: len(selected)] @ vectors[index]).max()) > max_similarity:
            continue
        selected_vectors[len(selected)] = vectors[index]
        selected.append(int(index))
    return selected


def facility_location(vectors: np.ndarray, k: int, weights: Sequence[float] | None = None) -> list[int]:
    """Select k rows that represent all: the greedy maximum of sum_i w_i max_{j in S} max(0, cos(i, j)).

    The value is at least 1 - 1/e of the best (Nemhauser et al. 1978). Evaluation is lazy (Minoux 1978), so that most
    gains are never computed again. Memory: one block of 2,048 rows of similarities.

    Args:
        vectors: unit rows of shape (n, dimensions).
        k: how many rows are selected, 1 to n.
        weights: w_i of each row, 1 unless given.

    Returns:
        k indices, in the order of their gains.

    Raises:
        ValueError: k is out of range, a value is not finite, or the numbers of rows differ.
    """
    n = len(vectors)
    _check_k(k, n)
    _check_vectors(vectors, n)
    weight = np.ones(n, dtype=np.float64) if weights is None else _finite_array(weights, "weights")
    if len(weight) != n:
        raise ValueError(f"{len(weight)} weights for {n} rows")
    # The similarity of each row to the nearest selected row: what a further row gains is what exceeds it.
    covered = np.zeros(n, dtype=np.float32)
    heap = [(-gain, index) for index, gain in enumerate(_first_gains(vectors, weight))]
    heapq.heapify(heap)
    selected: list[int] = []
    # The size of the selection for which a row's gain on the heap was computed.
    evaluated_at = dict.fromkeys(range(n), 0)
    while len(selected) < k:
        gain, index = heapq.heappop(heap)
        # A negative cosine covers nothing, so it counts as 0.
        similarity = np.maximum(vectors @ vectors[index], 0)
        if evaluated_at[index] < len(selected):
            evaluated_at[index] = len(selected)
            gain = -float(weight @ np.maximum(similarity - covered, 0))
            # Gains never rise, so a row whose updated gain still leads is the best one.
            if heap and (gain, index) > heap[0]:
                heapq.heappush(heap, (gain, index))
                continue
        selected.append(index)
        covered = np.maximum(covered, similarity)
    return selected


def _first_gains(vectors: np.ndarray, weight: np.ndarray) -> np.ndarray:
    gains = [
        np.maximum(vectors[start : start + BLOCK] @ vectors.T, 0) @ weight for start in range(0, len(vectors), BLOCK)
    ]
    return np.concatenate(gains)


def _finite_array(values: Sequence[float], name: str) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(f"{name} must be a list of finite numbers")
    return array


def _check_k(k: int, n: int) -> None:
    if not 1 <= k <= n:
        raise ValueError(f"k is {k}; there are {n} rows to choose from")


def _check_vectors(vectors: np.ndarray, n: int) -> None:
    if vectors.ndim != 2 or len(vectors) != n or not np.isfinite(vectors).all():
        raise ValueError(f"vectors must be finite, of shape ({n}, dimensions), not {vectors.shape}")
