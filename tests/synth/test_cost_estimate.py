"""Forecasts: honest intervals from few samples, narrow ones from many."""

import random

import pytest

from app.synth.cost_estimate import Sample, estimate_cost, wilson


def test_nothing_good_gives_no_forecast():
    assert estimate_cost([Sample(0, 8, 10, 1000, 0.1)], 100, 1.0, 10, 2) is None
    assert estimate_cost([], 100, 1.0, 10, 2) is None


def test_the_estimate_is_the_ratio_and_lies_in_its_interval():
    estimate = estimate_cost([Sample(4, 8, 16, 1600, 0.08)], 100, 2.0, 10, 2)
    estimates = {name: round(interval.estimate, 6) for name, interval in estimate.items()}
    assert estimates == {"yield": 0.5, "requests": 400, "tokens": 40_000, "dollars": 2.0, "seconds": 80}
    assert all(interval.low <= interval.estimate <= interval.high for interval in estimate.values())
    assert estimate["dollars"].high > 1.5 * estimate["dollars"].low


def test_a_row_takes_at_least_its_steps():
    estimate = estimate_cost([Sample(8, 8, 8, 100, 0.0)], 1, 2.0, 100, 3)
    assert estimate["seconds"].low == 6.0


@pytest.mark.parametrize(("good", "offered"), [(0, 5), (5, 5), (1, 2), (300, 1000)])
def test_a_share_lies_between_nothing_and_all(good, offered):
    estimate = wilson(good, offered)
    assert 0 < estimate.low <= max(estimate.estimate, 1e-6) <= estimate.high <= 1
    assert (estimate.high - estimate.low < 0.06) == (offered == 1000)


def test_nine_of_ten_intervals_hold_the_truth():
    """Batches of 8 with a yield of 0.6 and calls of 50 to 150 tokens: 12 of them forecast 1,000 rows."""
    rng, held = random.Random(7), 0
    for _ in range(200):
        samples = []
        for _ in range(12):
            good = sum(rng.random() < 0.6 for _ in range(8))
            samples.append(Sample(good, 8, 16, sum(rng.randint(50, 150) for _ in range(16)), 0.01))
        estimate = estimate_cost(samples, 1000, 1.0, 10, 2)["tokens"]
        held += estimate.low <= 1000 / 0.6 * 2 * 100 <= estimate.high
    assert held >= 180
