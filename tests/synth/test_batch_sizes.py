"""The size of batches: enough proposals for the missing rows, and few paid rows over the target."""

import random

import pytest

from app.synth.batch_sizes import batch_sizes, expected_yield

MAX_SHARE_OVER_TARGET = 0.05


def test_the_yield_is_that_of_the_run_once_it_has_experience():
    assert expected_yield(0, 23) == expected_yield(23, 23) == 1.0
    assert 0.25 < expected_yield(6, 24) < 0.5
    assert expected_yield(2500, 10_000) == pytest.approx(0.25, abs=0.001)
    assert expected_yield(0, 10_000) == 0.05


def test_batches_are_no_larger_than_what_is_missing_needs():
    assert batch_sizes(10, 1.0, 8, 64) == [8, 2]
    assert batch_sizes(3, 0.5, 8, 64) == [6]
    assert batch_sizes(0, 1.0, 8, 64) == []
    assert batch_sizes(1000, 1.0, 8, 3) == [8, 8, 8]


def share_over_target(target: int, accepted_share: float, batch_size: int, candidates: int, seed: int) -> float:
    """Plan a run of batches that end out of order, each row accepted by chance; return its share over the target."""
    rng = random.Random(seed)
    accepted = decided = over_target = turn = 0
    open_batches: list[tuple[int, int]] = []
    while accepted < target:
        rows_per_proposal = expected_yield(accepted, decided) * candidates
        missing = target - accepted - rows_per_proposal * sum(size for size, _ in open_batches)
        sizes = batch_sizes(missing, rows_per_proposal, batch_size, 64)
        open_batches += [(size, turn + rng.randint(1, 4)) for size in sizes]
        turn += 1
        for size, _ in (batch for batch in open_batches if batch[1] <= turn):
            good = sum(rng.random() < accepted_share for _ in range(size * candidates))
            decided += size * candidates
            over_target += max(0, good - (target - accepted))
            accepted = min(target, accepted + good)
        open_batches = [batch for batch in open_batches if batch[1] > turn]
    over_target += sum(rng.random() < accepted_share for size, _ in open_batches for _ in range(size * candidates))
    return over_target / (accepted + over_target)


@pytest.mark.parametrize(
    ("target", "accepted_share", "batch_size", "candidates"),
    [(40, 0.25, 4, 4), (40, 0.1, 4, 4), (40, 0.8, 8, 1), (200, 0.25, 4, 4), (200, 0.6, 8, 1)],
)
def test_few_paid_rows_are_over_the_target(target, accepted_share, batch_size, candidates):
    shares = [share_over_target(target, accepted_share, batch_size, candidates, seed) for seed in range(200)]
    assert sum(shares) / len(shares) <= MAX_SHARE_OVER_TARGET
