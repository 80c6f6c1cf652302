"""Sparse regions, topics and quotas."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.synth.methods.conditioning import Conditioning, choose_conditioning, tag_row
from app.synth.novelty.coverage import density, sparse_sample
from app.synth.types import Candidate


def crowd(near: int, far: int) -> np.ndarray:
    """`near` rows in one corner, then `far` rows each by itself."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([np.eye(1, 64) + 0.05 * rng.standard_normal((near, 64)), rng.standard_normal((far, 64))])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_what_stands_alone_is_drawn_more_often_than_what_is_crowded():
    vectors = crowd(90, 10)
    drawn = Counter(
        position >= 90 for seed in range(300) for position in sparse_sample(vectors, 2, random.Random(seed))
    )
    assert drawn[True] / drawn.total() > 0.25
    assert density(vectors)[:90].min() > density(vectors)[90:].max()


@given(st.integers(0, 12), st.integers(0, 15), st.integers(0, 99))
def test_a_sample_has_no_row_twice(n, count, seed):
    vectors = np.random.default_rng(seed).standard_normal((n, 4)).astype(np.float32)
    drawn = sparse_sample(vectors, count, random.Random(seed))
    assert len(set(drawn)) == len(drawn) == min(n, count)


def test_the_type_that_is_behind_its_share_is_next():
    rng, counts = random.Random(1), Counter()
    for _ in range(300):
        counts[choose_conditioning((), {"a": 0.5, "b": 0.3, "c": 0.2}, counts, rng)["task_type"]] += 1
    assert counts == {"a": 150, "b": 90, "c": 60}
    topics = Counter(choose_conditioning(("x", "y"), {}, {}, rng)["topic"] for _ in range(200))
    assert set(topics) == {"x", "y"} and min(topics.values()) > 60
    assert choose_conditioning((), {}, {}, rng) == {}


@pytest.mark.parametrize(
    ("is_classification", "asked", "tag"),
    [(True, "rewriting", "classification"), (False, "classification", None), (False, "rewriting", "rewriting")],
)
def test_a_task_is_tagged_by_what_it_was_found_to_be(is_classification, asked, tag):
    row = tag_row(Candidate("x", is_classification=is_classification), Conditioning("t", asked))
    assert row.tags.get("task_type") == tag and row.tags["topic"] == "t"


def test_the_prompt_lines_of_a_conditioning_are_in_the_language():
    assert Conditioning("tea", "rewriting").prompt_lines("en").count("\n") == 2
    assert "주제" in Conditioning("차").prompt_lines("ko-KR")
    assert Conditioning().prompt_lines("en") == ""
