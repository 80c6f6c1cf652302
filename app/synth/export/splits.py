"""Assignment of rows to train, validation and test by their content, so that equal rows always get the same split."""

import hashlib
from collections.abc import Sequence

SPLITS = ("train", "validation", "test")


def assign_splits(groups: Sequence[str], shares: dict[str, float], seed: int) -> dict[str, str]:
    """Return the split of each distinct group, so that rows of one instruction share a split.

    Groups are ordered by sha256(seed, group). Test takes the first ones, validation the next, train the rest. A split
    with a share above 0 gets at least one group when there are enough groups for every split.

    Args:
        groups: the group of each row.
        shares: the share of each split, 0 to 1.
        seed: changes the order of the groups.

    Returns:
        The name of the split by group.
    """
    # A hash rather than a shuffle: a row that is added later moves few others to another split.
    distinct = sorted(set(groups), key=lambda group: _rank(group, seed))
    counts = {name: _count(len(distinct), shares.get(name, 0.0)) for name in ("test", "validation")}
    held_out = counts["test"] + counts["validation"]
    if held_out >= len(distinct):
        # Too few groups to hold any out: training needs at least one.
        counts = dict.fromkeys(counts, 0)
    split_of, start = {}, 0
    for name, count in counts.items():
        split_of.update(dict.fromkeys(distinct[start : start + count], name))
        start += count
    split_of.update(dict.fromkeys(distinct[start:], "train"))
    return split_of


def _count(total: int, share: float) -> int:
    return max(1, round(total * share)) if share > 0 else 0


def _rank(group: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\x1f{group}".encode()).digest()
