"""Which rows train, which validate, which test: by content, so that the same rows always fall the same way."""

import hashlib
from collections.abc import Sequence

SPLITS = ("train", "validation", "test")


def assign(families: Sequence[str], shares: dict[str, float], seed: int) -> dict[str, str]:
    """A split for each distinct family, so that rows of one instruction never part.

    `families`: one entry a row. Families are ordered by sha256(seed, family); test takes the first of that
    order, then validation, and train the rest. A split with a share above 0 gets at least one
    family when there are enough for every split.
    """
    distinct = sorted(set(families), key=lambda family: _rank(family, seed))
    wanted = {name: _count(len(distinct), shares.get(name, 0.0)) for name in ("test", "validation")}
    held = wanted["test"] + wanted["validation"]
    if held >= len(distinct):
        wanted = dict.fromkeys(wanted, 0)
    found, start = {}, 0
    for name, count in wanted.items():
        found.update(dict.fromkeys(distinct[start : start + count], name))
        start += count
    found.update(dict.fromkeys(distinct[start:], "train"))
    return found


def _count(total: int, share: float) -> int:
    return max(1, round(total * share)) if share > 0 else 0


def _rank(family: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\x1f{family}".encode()).digest()
