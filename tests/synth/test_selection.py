"""Subsets against their plain definitions."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.synth.export.mixing import counts_of_mix, shares
from app.synth.export.selection import facility_location, quality_complexity, top_k


def unit(n: int, seed: int = 0, dimensions: int = 8) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((n, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def covered(vectors: np.ndarray, chosen) -> float:
    return float(np.maximum(vectors @ vectors[list(chosen)].T, 0).max(axis=1).sum())


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.data())
def test_top_k_is_the_head_of_a_stable_sort(scores, data):
    k = data.draw(st.integers(1, len(scores)))
    assert top_k(scores, k) == sorted(range(len(scores)), key=lambda n: (-scores[n], n))[:k]


@pytest.mark.parametrize("seed", range(5))
def test_facility_location_is_greedy_and_near_the_best(seed):
    vectors = unit(9, seed)
    result = facility_location(vectors, 3)
    greedy: list[int] = []
    for _ in range(3):
        greedy.append(max((n for n in range(9) if n not in greedy), key=lambda n: (covered(vectors, [*greedy, n]), -n)))
    # Two rows may cover the same to the last bit; which of them is taken is of no matter.
    assert covered(vectors, result) == pytest.approx(covered(vectors, greedy), rel=1e-5)
    best = max(covered(vectors, chosen) for chosen in itertools.combinations(range(9), 3))
    assert covered(vectors, result) >= (1 - 1 / np.e) * best


def test_facility_location_takes_one_of_each_cluster():
    centres = np.eye(4, 8, dtype=np.float32)
    vectors = np.concatenate([centres + 0.01 * unit(4, seed) for seed in range(10)])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert {position % 4 for position in facility_location(vectors, 4)} == {0, 1, 2, 3}


def test_all_rows_and_weights():
    vectors = unit(6)
    assert sorted(facility_location(vectors, 6)) == list(range(6))
    assert facility_location(vectors, 1, [0, 0, 0, 0, 0, 1]) == [5]


def test_quality_complexity_leaves_out_what_is_near_to_what_it_has():
    vectors = np.array([[1, 0], [1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)
    assert quality_complexity([5, 4, 3, 2], [1, 1, 1, 1], vectors, 3) == [0, 2, 3]
    assert quality_complexity([5, 4, 3, 2], [1, 1, 1, 1], vectors, 3, max_similarity=0.7) == [0, 2]
    assert quality_complexity([1, 2, 3, 4], [9, 1, 1, 1], vectors, 1) == [0]


@given(st.integers(1, 12), st.integers(0, 50), st.floats(0.1, 1.0))
def test_no_two_of_the_chosen_are_nearer_than_the_cap(n, seed, cap):
    vectors, rng = unit(n, seed, 3), np.random.default_rng(seed)
    chosen = quality_complexity(rng.random(n), rng.random(n), vectors, n, cap)
    assert len(set(chosen)) == len(chosen)
    assert all(vectors[a] @ vectors[b] <= cap + 1e-6 for a, b in itertools.combinations(chosen, 2))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: top_k([1, 2], 3), "k is 3; there are 2 rows"),
        (lambda: top_k([1, float("nan")], 1), "finite"),
        (lambda: facility_location(unit(3), 0), "k is 0"),
        (lambda: facility_location(unit(3), 1, [1]), "1 weights for 3 rows"),
        (lambda: quality_complexity([1], [1], unit(2), 1), "shape"),
    ],
)
def test_what_makes_no_sense_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(
    ("sizes", "weights", "temperature", "counts"),
    [
        ({"a": 100, "b": 50}, None, 1, {"a": 100, "b": 50}),
        ({"a": 100, "b": 50}, {"a": 1, "b": 1}, 1, {"a": 50, "b": 50}),
        ({"a": 900, "b": 500}, {"a": 9, "b": 1}, 1, {"a": 900, "b": 100}),
        ({"a": 900, "b": 0}, {"a": 9, "b": 1}, 1, {"a": 900}),
        ({"a": 900, "b": 9}, {"a": 1}, 1, {"a": 900}),
        ({"a": 10000, "b": 100}, None, 2, {"a": 1000, "b": 100}),
        ({}, None, 1, {}),
    ],
)
def test_a_mixture_takes_as_many_rows_as_its_shares_allow(sizes, weights, temperature, counts):
    assert counts_of_mix(sizes, weights, temperature) == counts


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 1000), max_size=6), st.floats(1, 20))
def test_shares_add_up_to_one_and_no_group_is_overdrawn(sizes, temperature):
    result = shares(sizes, None, temperature)
    assert not result or sum(result.values()) == pytest.approx(1)
    assert all(1 <= count <= sizes[name] for name, count in counts_of_mix(sizes, None, temperature).items())
