"""Choosing a subset of rows: the best, the best that differ, or those that stand for the others. Deterministic."""

import heapq
from collections.abc import Sequence

import numpy as np

BLOCK = 2048


def top_k(scores: Sequence[float], k: int) -> list[int]:
    """Places of the k highest scores, best first; among equals the earlier place."""
    values = _finite(scores, "scores")
    _check_k(k, len(values))
    return [int(place) for place in np.argsort(-values, kind="stable")[:k]]


def quality_complexity(
    quality: Sequence[float], complexity: Sequence[float], vectors: np.ndarray, k: int, max_similarity: float = 0.9
) -> list[int]:
    """DEITA's selection (Liu et al. 2024, section 2.4): by quality x complexity, none near to one taken before.

    `vectors`: unit rows. A row is passed over when its cosine to any row taken is above `max_similarity`. May give
    fewer than k.
    """
    values = _finite(quality, "quality") * _finite(complexity, "complexity")
    _check_k(k, len(values))
    _check_vectors(vectors, len(values))
    taken: list[int] = []
    kept = np.empty((k, vectors.shape[1]), dtype=np.float32)
    for place in np.argsort(-values, kind="stable"):
        if len(taken) == k:
            break
        if taken and float((kept[: len(taken)] @ vectors[place]).max()) > max_similarity:
            continue
        kept[len(taken)] = vectors[place]
        taken.append(int(place))
    return taken


def facility_location(vectors: np.ndarray, k: int, weights: Sequence[float] | None = None) -> list[int]:
    """k rows that together are nearest to all: greedy maximum of sum_i w_i max_{j in S} max(0, cos(i, j)).

    Within 1 - 1/e of the best (Nemhauser et al. 1978); lazily evaluated (Minoux 1978), so that most gains are
    never computed again. Memory: one block of 2,048 rows of similarities.
    """
    n = len(vectors)
    _check_k(k, n)
    _check_vectors(vectors, n)
    weight = np.ones(n, dtype=np.float64) if weights is None else _finite(weights, "weights")
    if len(weight) != n:
        raise ValueError(f"{len(weight)} weights for {n} rows")
    covered = np.zeros(n, dtype=np.float32)
    heap = [(-gain, place) for place, gain in enumerate(_first_gains(vectors, weight))]
    heapq.heapify(heap)
    taken: list[int] = []
    fresh = dict.fromkeys(range(n), 0)
    while len(taken) < k:
        gain, place = heapq.heappop(heap)
        similarity = np.maximum(vectors @ vectors[place], 0)
        if fresh[place] < len(taken):
            fresh[place] = len(taken)
            gain = -float(weight @ np.maximum(similarity - covered, 0))
            # Gains only fall: one that still leads when it is up to date leads for good.
            if heap and (gain, place) > heap[0]:
                heapq.heappush(heap, (gain, place))
                continue
        taken.append(place)
        covered = np.maximum(covered, similarity)
    return taken


def _first_gains(vectors: np.ndarray, weight: np.ndarray) -> np.ndarray:
    gains = [
        np.maximum(vectors[start : start + BLOCK] @ vectors.T, 0) @ weight for start in range(0, len(vectors), BLOCK)
    ]
    return np.concatenate(gains)


def _finite(values: Sequence[float], name: str) -> np.ndarray:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or not np.isfinite(found).all():
        raise ValueError(f"{name} must be a list of finite numbers")
    return found


def _check_k(k: int, n: int) -> None:
    if not 1 <= k <= n:
        raise ValueError(f"k is {k}; there are {n} rows to choose from")


def _check_vectors(vectors: np.ndarray, n: int) -> None:
    if vectors.ndim != 2 or len(vectors) != n or not np.isfinite(vectors).all():
        raise ValueError(f"vectors must be finite, of shape ({n}, dimensions), not {vectors.shape}")
