"""Sampling from the sparse regions of a pool, so that a teacher sees rare rows more often than common ones."""

import random

import numpy as np

NEIGHBOURS = 10
# How strongly sparse rows are preferred: with 4 the sparsest tenth is drawn about e^2 times as often as the densest.
SHARPNESS = 4.0


def density(vectors: np.ndarray, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """Return the mean cosine of each unit vector with its nearest neighbours.

    Args:
        vectors: unit float32 of shape (n, dimensions).
        neighbours: how many nearest rows are averaged.

    Returns:
        float32 of shape (n,); zero for a single row.
    """
    n = len(vectors)
    if n < 2:
        return np.zeros(n, dtype=np.float32)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    k = min(neighbours, n - 1)
    return np.partition(similarity, n - k, axis=1)[:, n - k :].mean(axis=1)


def sparse_sample(vectors: np.ndarray, count: int, rng: random.Random) -> list[int]:
    """Sample rows without replacement; rows in sparse regions are preferred.

    Args:
        vectors: unit float32 of shape (n, dimensions).
        count: the maximum of rows.
        rng: the source of randomness.

    Returns:
        The indices of up to `count` rows.
    """
    n = len(vectors)
    # By rank rather than by density, since encoders spread their cosines differently.
    ranks = np.argsort(np.argsort(density(vectors), kind="stable"), kind="stable")
    weights = np.exp(-SHARPNESS * ranks / max(1, n - 1))
    # Efraimidis and Spirakis 2006: the rows with the largest u^(1/w) are a weighted sample without replacement.
    keys = [rng.random() ** (1 / weight) for weight in weights]
    return sorted(range(n), key=lambda index: -keys[index])[:count]
