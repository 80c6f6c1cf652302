"""Texts and vectors for the benches: instructions of a folder of datasets, or of the bundled seeds, and variations."""

import json
import os
import random
from collections import Counter
from pathlib import Path

import numpy as np

from app.synth import load_seeds

# Each line of a file is JSON with an `instruction`. Without the folder the benches use the bundled seeds, so that they
# run on every machine.
DATA = Path(os.environ.get("SEEDBED_BENCH_DATA", "../shared/data"))


def load_texts() -> tuple[list[str], str]:
    """Return distinct instructions in a fixed random order, and the names of their files."""
    files = sorted(DATA.glob("*.jsonl")) if DATA.is_dir() else []
    texts = [json.loads(line)["instruction"] for file in files for line in file.read_text("utf-8").split("\n") if line]
    source = ", ".join(file.name for file in files)
    if not texts:
        texts = [seed.instruction for name in ("english", "korean") for seed in load_seeds(name)]
        source = "bundled seeds"
    # Exact copies would be found without any index.
    texts = list(dict.fromkeys(texts))
    random.Random(1).shuffle(texts)
    return texts, source


def perturb_texts(texts: list[str], count: int, share: float, seed: int) -> list[str]:
    """Return `count` random texts of `texts` in which a share of the words is replaced.

    Args:
        texts: The original texts.
        count: The number of texts to return.
        share: The probability from 0 to 1 that a word is replaced. About 0.12 makes near-duplicates, 0.5 new texts.
        seed: The same seed gives the same texts.
    """
    rng = random.Random(seed)
    # Words are drawn by frequency: with rare words alone the index would find no candidates and look too fast.
    frequency = Counter(word for text in texts for word in text.split())
    vocabulary, weights = list(frequency), np.cumsum(list(frequency.values())).tolist()
    perturbed = []
    while len(perturbed) < count:
        base = rng.choice(texts).split()
        replacements = rng.choices(vocabulary, cum_weights=weights, k=len(base))
        pairs = zip(base, replacements, strict=True)
        perturbed.append(" ".join(new if rng.random() < share else word for word, new in pairs))
    return perturbed


def load_pool_texts(count: int) -> tuple[list[str], str]:
    """Return `count` texts that are mostly no duplicates, originals first and then perturbed ones, and their source."""
    texts, source = load_texts()
    return [*texts, *perturb_texts(texts, max(0, count - len(texts)), 0.55, 2)][:count], source


def draw_unit_vectors(count: int, dimensions: int, seed: int) -> np.ndarray:
    """Return float32 vectors of unit length of shape (count, dimensions).

    They form 500 clusters. Independent vectors would all have about the same distance, unlike those of real texts.
    """
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((500, dimensions), dtype=np.float32)
    vectors = np.empty((count, dimensions), dtype=np.float32)
    for start in range(0, count, 10_000):
        part = vectors[start : start + 10_000]
        part[:] = centres[rng.integers(0, 500, len(part))]
        part += rng.standard_normal(part.shape, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return vectors
