"""What a whole run will take, from what some of it, or others like it, took.

Yield is a share of candidates, with the interval of Wilson (1927). What a candidate costs is a ratio of sums over
batches, with an interval from resampling batches (the bootstrap: Efron 1979). All intervals are of 90%.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_Z = 1.645
_RESAMPLES, _MIN_BATCHES = 1000, 4
# With fewer batches resampling says nothing: a third more or less is what runs of one kind differ by.
_SPREAD = 1 / 3


@dataclass(frozen=True)
class Sample:
    """One batch: its candidates, how many of them were good (also those beyond the target), and what was paid."""

    good: int
    candidates: int
    requests: int
    tokens: int
    dollars: float


@dataclass(frozen=True)
class Interval:
    estimate: float
    low: float
    high: float

    def times(self, factor: float) -> "Interval":
        return Interval(self.estimate * factor, self.low * factor, self.high * factor)

    def over(self, other: "Interval") -> "Interval":
        """The quotient, each bound at its worst."""
        return Interval(self.estimate / other.estimate, self.low / other.high, self.high / other.low)


def estimate_cost(
    samples: Sequence[Sample], target: int, latency: float, in_flight: int, sequential_calls: int
) -> dict | None:
    """Yield, requests, tokens, dollars and seconds for `target` rows; None when nothing good is among the samples.

    `latency`: mean seconds of a call. `steps`: calls that a row waits for one after another, at least.
    """
    good_rows, candidates = sum(sample.good for sample in samples), sum(sample.candidates for sample in samples)
    if not good_rows:
        return None
    share = wilson(good_rows, candidates)
    per_row = {name: _per_candidate(samples, name).over(share) for name in ("requests", "tokens", "dollars")}
    total = {name: interval.times(target) for name, interval in per_row.items()}
    min_seconds = latency * sequential_calls
    seconds = total["requests"].times(latency / in_flight)
    total["seconds"] = Interval(*(max(min_seconds, sample) for sample in (seconds.estimate, seconds.low, seconds.high)))
    return {"yield": share} | total


def wilson(successes: int, trials: int) -> Interval:
    """A share with its interval, which also few or equal outcomes have."""
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
    resamples = np.random.default_rng(0).integers(0, len(samples), (_RESAMPLES, len(samples)))
    totals = candidates[resamples].sum(axis=1)
    ratios = amounts[resamples].sum(axis=1) / np.maximum(totals, 1.0)
    low, high = np.quantile(ratios, [0.05, 0.95])
    return Interval(float(estimate), float(min(low, estimate)), float(max(high, estimate)))
