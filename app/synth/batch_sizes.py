"""How many proposals to ask for next: no more than are likely needed for the rows that are missing."""

import math

EXPERIENCE, MIN_YIELD = 24, 0.05


def expected_yield(accepted: int, decided: int) -> float:
    """The share of decided rows that is accepted, by a run's own experience once it has some.

    Before that it is 1: a batch that is too small is followed by another, but surplus rows are paid for in vain.
    """
    return max(MIN_YIELD, accepted / decided) if decided >= EXPERIENCE else 1.0


def batch_sizes(missing: float, rows_per_proposal: float, batch_size: int, max_batches: int) -> list[int]:
    """Proposals of each new batch. `missing`: rows that no open batch is expected to bring."""
    sizes: list[int] = []
    while missing > 0 and len(sizes) < max_batches:
        sizes.append(min(batch_size, math.ceil(missing / rows_per_proposal)))
        missing -= rows_per_proposal * sizes[-1]
    return sizes
