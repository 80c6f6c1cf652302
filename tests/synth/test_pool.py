"""Novelty: both indexes against the plain definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.synth.lexical import LexicalIndex
from app.synth.pool import Pool, Thresholds
from app.synth.semantic import SemanticIndex
from app.synth.text import tokenise
from tests.fakes import hash_encoder

TEXTS = st.text(alphabet="ab가나 한👍日", max_size=24)


def plain_f1(one: str, other: str, mode: str) -> float:
    """ROUGE-L F1 by its definition: a quadratic table, and the float formula of rouge_score."""
    a, b = tokenise(one, mode), tokenise(other, mode)
    if not a or not b:
        return 0.0
    row = [0] * (len(b) + 1)
    for x in a:
        before = row[:]
        for j, y in enumerate(b):
            row[j + 1] = before[j] + 1 if x == y else max(row[j], before[j + 1])
    precision, recall = row[-1] / len(b), row[-1] / len(a)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXTS, max_size=8), TEXTS, st.sampled_from(["unicode", "paper"]))
def test_lexical_index_is_the_plain_definition(pool, text, mode):
    index = LexicalIndex(mode)
    for n, one in enumerate(pool):
        index.add(str(n), one)
    best = max((plain_f1(text, one, mode) for one in pool), default=0.0)
    found = index.nearest(text)
    assert (found.score if found else 0.0) == best
    if found:
        assert plain_f1(text, found.text, mode) == best


def test_a_tie_at_the_threshold_falls_as_the_float_formula_says():
    # F1 is exactly 0.7 for both; the float formula gives 0.7 for one and a hair more for the other.
    decisions = set()
    for m in range(1, 60):
        for n in range(1, 60):
            if 7 * (m + n) % 20 == 0 and 7 * (m + n) // 20 <= min(m, n):
                common = 7 * (m + n) // 20
                shared = [f"s{i}" for i in range(common)]
                one = " ".join(shared + [f"x{i}" for i in range(m - common)])
                other = " ".join(shared + [f"y{i}" for i in range(n - common)])
                index = LexicalIndex("paper")
                index.add("a", one)
                score = index.nearest(other).score
                assert score == plain_f1(other, one, "paper")
                decisions.add(score > 0.7)
    assert decisions == {True, False}


@pytest.mark.parametrize(
    ("kept", "offered"),
    [
        ("서울의 날씨를 요약하세요", "서울 날씨를 요약해 주세요."),
        ("List three uses of vinegar at home.", "list three uses of vinegar at home"),
        ("天気予報を要約してください", "天気予報を要約して下さい"),
    ],
)
def test_near_duplicates_are_caught_in_every_script(kept, offered):
    pool = Pool()
    pool.add("first", kept, None)
    found = pool.screen(offered)
    assert (found.reason, found.nearest_id, found.nearest_text) == ("duplicate_lexical", "first", kept)
    assert found.value > found.threshold == 0.7


def test_semantic_index_is_exact_and_grows():
    vectors = hash_encoder([str(n) for n in range(300)])
    index = SemanticIndex()
    for n, vector in enumerate(vectors):
        index.add(str(n), vector)
    query = hash_encoder(["other"])[0]
    best = index.nearest(query)
    assert best.id == str(int((vectors @ query).argmax()))
    assert best.score == pytest.approx(float((vectors @ query).max()), abs=1e-6)


def test_a_vector_of_another_size_is_refused():
    index = SemanticIndex()
    index.add("a", np.ones(4, dtype=np.float32))
    with pytest.raises(ValueError, match="4 dimensions"):
        index.add("b", np.ones(5, dtype=np.float32))


def test_semantic_duplicates_name_their_neighbour():
    pool = Pool(Thresholds(lexical=0.7, semantic=0.9))
    vector = hash_encoder(["x"])[0]
    pool.add("first", "Name a fruit", vector)
    found = pool.check("Tell me something that grows on trees", vector)
    assert (found.reason, found.nearest_id, found.nearest_text) == ("duplicate_semantic", "first", "Name a fruit")
    assert pool.check("Tell me something that grows on trees", -vector) is None
