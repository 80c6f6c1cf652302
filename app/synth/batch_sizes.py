"""The size of the next batches: no more proposals than the missing rows are likely to need."""

import math

# The yield of fewer than 24 rows is mostly chance. The minimum bounds the proposals that a missing row can cause.
EXPERIENCE, MIN_YIELD = 24, 0.05
# Rows that are assumed to be accepted beside those that were: a streak of rejected rows must not plan many proposals
# whose rows would then be over the target.
CAUTION = 8


def expected_yield(accepted: int, decided: int) -> float:
    """Return the share of decided rows that is accepted, by a run's own experience once it has some.

    Before that it is 1: a batch that is too small is followed by another, but rows over the target are wasted.

    Args:
        accepted: rows that the run accepted.
        decided: rows that the run accepted or rejected.
    """
    if decided < EXPERIENCE:
        return 1.0
    return max(MIN_YIELD, (accepted + CAUTION) / (decided + CAUTION))


def batch_sizes(missing: float, rows_per_proposal: float, batch_size: int, max_batches: int) -> list[int]:
    """Return the number of proposals of each new batch.

    Args:
        missing: rows to the target that no open batch is expected to bring.
        rows_per_proposal: accepted rows that a proposal is expected to bring.
        batch_size: the maximum of proposals in a batch.
        max_batches: the maximum of new batches.
    """
    sizes: list[int] = []
    while missing > 0 and len(sizes) < max_batches:
        sizes.append(min(batch_size, math.ceil(missing / rows_per_proposal)))
        missing -= rows_per_proposal * sizes[-1]
    return sizes
