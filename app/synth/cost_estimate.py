"""Cost estimate of a run from batches of the run, or of runs like it.

The yield is the share of good candidates, with the interval of Wilson (1927). The cost of a candidate is a ratio of
sums over batches, with a bootstrap interval over batches (Efron 1979). All intervals are 90% intervals.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# The quantile of the normal distribution for a 90% interval.
_Z = 1.645
_RESAMPLES, _MIN_BATCHES = 1000, 4
# With fewer batches than _MIN_BATCHES resampling is meaningless. A third is how much runs of one method differ.
_SPREAD = 1 / 3


@dataclass(frozen=True)
class Sample:
    """One batch: its good candidates (those beyond the target included), all candidates, and its cost."""

    good: int
    candidates: int
    requests: int
    tokens: int
    dollars: float


@dataclass(frozen=True)
class Interval:
    """An estimate with the bounds of its 90% interval."""

    estimate: float
    low: float
    high: float

    def times(self, factor: float) -> "Interval":
        """Return the estimate and both bounds, each multiplied by `factor`."""
        return Interval(self.estimate * factor, self.low * factor, self.high * factor)

    def over(self, other: "Interval") -> "Interval":
        """Return the quotient of two intervals.

        Each bound takes the worse bounds of both, which makes it wider than 90%.
        """
        return Interval(self.estimate / other.estimate, self.low / other.high, self.high / other.low)


def estimate_cost(
    samples: Sequence[Sample], target: int, latency: float, in_flight: int, sequential_calls: int
) -> dict | None:
    """Estimate the cost of `target` rows.

    Args:
        samples: batches to estimate from.
        target: rows to accept.
        latency: mean seconds of a call.
        in_flight: calls at the same time.
        sequential_calls: the minimum of calls that a row needs one after another.

    Returns:
        Intervals of `yield`, `requests`, `tokens`, `dollars` and `seconds`; None without a good row in the samples.
    """
    good_rows, candidates = sum(sample.good for sample in samples), sum(sample.candidates for sample in samples)
    if not good_rows:
        return None
    share = wilson(good_rows, candidates)
    per_row = {name: _per_candidate(samples, name).over(share) for name in ("requests", "tokens", "dollars")}
    total = {name: interval.times(target) for name, interval in per_row.items()}
    # However many calls run at once, a row waits for its own calls.
    min_seconds = latency * sequential_calls
    # Little's law: throughput is calls in flight divided by their latency.
    seconds = total["requests"].times(latency / in_flight)
    total["seconds"] = Interval(*(max(min_seconds, bound) for bound in (seconds.estimate, seconds.low, seconds.high)))
    return {"yield": share} | total


def wilson(successes: int, trials: int) -> Interval:
    """Return the share of successes with its Wilson interval, which holds for few trials and for shares of 0 and 1."""
    share, n = successes / trials, trials
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half_width = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return Interval(share, max(1e-6, min(share, centre - half_width)), min(1.0, max(share, centre + half_width)))


def _per_candidate(samples: Sequence[Sample], name: str) -> Interval:
    candidates = np.array([sample.candidates for sample in samples], dtype=float)
    amounts = np.array([getattr(sample, name) for sample in samples], dtype=float)
    estimate = amounts.sum() / candidates.sum()
    if len(samples) < _MIN_BATCHES:
        return Interval(estimate, estimate * (1 - _SPREAD), estimate * (1 + _SPREAD))
    # A fixed seed, so that the same batches always give the same estimate.
    resamples = np.random.default_rng(0).integers(0, len(samples), (_RESAMPLES, len(samples)))
    totals = candidates[resamples].sum(axis=1)
    ratios = amounts[resamples].sum(axis=1) / np.maximum(totals, 1.0)
    low, high = np.quantile(ratios, [0.05, 0.95])
    # The bounds include the estimate even if resampling is skewed.
    return Interval(float(estimate), float(min(low, estimate)), float(max(high, estimate)))
