"""Texts for the benches: real rows where a folder of them is given, else the bundled seeds; and changed ones."""

import json
import os
import random
from collections import Counter
from pathlib import Path

import numpy as np

from app.synth import load_seeds

# JSON lines with an `instruction` each. Without the folder the benches run on the bundled seeds.
DATA = Path(os.environ.get("SEEDBED_BENCH_DATA", "../shared/data"))


def real_texts() -> tuple[list[str], str]:
    """Distinct instructions in a fixed order, and where they are from."""
    files = sorted(DATA.glob("*.jsonl")) if DATA.is_dir() else []
    texts = [json.loads(line)["instruction"] for file in files for line in file.read_text("utf-8").split("\n") if line]
    where = ", ".join(file.name for file in files)
    if not texts:
        texts = [seed.instruction for name in ("english", "korean") for seed in load_seeds(name)]
        where = "bundled seeds"
    texts = list(dict.fromkeys(texts))
    random.Random(1).shuffle(texts)
    return texts, where


def changed(texts: list[str], count: int, share: float, seed: int) -> list[str]:
    """`count` texts of the words of these: in each a `share` of the words is drawn anew, by how often words stand."""
    rng = random.Random(seed)
    frequency = Counter(word for text in texts for word in text.split())
    words, weights = list(frequency), np.cumsum(list(frequency.values())).tolist()
    found = []
    while len(found) < count:
        base = rng.choice(texts).split()
        fresh = rng.choices(words, cum_weights=weights, k=len(base))
        found.append(" ".join(new if rng.random() < share else old for old, new in zip(base, fresh, strict=True)))
    return found


def pool_texts(count: int) -> tuple[list[str], str]:
    """`count` texts that are mostly new to each other: the real ones first, then changed ones."""
    texts, where = real_texts()
    return [*texts, *changed(texts, max(0, count - len(texts)), 0.55, 2)][:count], where


def unit_vectors(count: int, dimensions: int, seed: int) -> np.ndarray:
    """Vectors in 500 clusters, so that the nearest neighbours are not all equally far, as among real texts."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((500, dimensions), dtype=np.float32)
    found = np.empty((count, dimensions), dtype=np.float32)
    for start in range(0, count, 10_000):
        part = found[start : start + 10_000]
        part[:] = centres[rng.integers(0, 500, len(part))]
        part += rng.standard_normal(part.shape, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return found
