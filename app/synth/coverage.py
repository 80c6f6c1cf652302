"""Drawing from the sparse regions of a pool, so that what is rare is shown more often than what is common."""

import random

import numpy as np

NEIGHBOURS = 10
# How much more often: the sparsest tenth of a pool is drawn about e^2 times as often as the densest.
SHARPNESS = 4.0


def density(vectors: np.ndarray, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """Mean cosine of each unit vector with its nearest others; shape (n,). Zero for a single one."""
    n = len(vectors)
    if n < 2:
        return np.zeros(n, dtype=np.float32)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    k = min(neighbours, n - 1)
    return np.partition(similarity, n - k, axis=1)[:, n - k :].mean(axis=1)


def sparse_sample(vectors: np.ndarray, count: int, rng: random.Random) -> list[int]:
    """Indices of up to `count` rows without repetition, the sparser regions preferred.

    `vectors`: unit float32 of shape (n, dimensions). A row's weight falls with the rank of its density, which does
    not depend on how an encoder spreads its similarities.
    """
    n = len(vectors)
    ranks = np.argsort(np.argsort(density(vectors), kind="stable"), kind="stable")
    weights = np.exp(-SHARPNESS * ranks / max(1, n - 1))
    # Efraimidis and Spirakis 2006: the largest u^(1/w) are a weighted sample without repetition.
    keys = [rng.random() ** (1 / weight) for weight in weights]
    return sorted(range(n), key=lambda place: -keys[place])[:count]
