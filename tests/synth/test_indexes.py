"""Both indexes against the plain quadratic definition, on random and on adversarial texts."""

import random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.synth.novelty.lexical import LexicalIndex, similarity
from app.synth.novelty.semantic import SemanticIndex
from app.synth.text import tokenise

# Few words, so that texts often share many of them; and every script that may break a tokeniser.
WORDS = ("a", "b", "c", "d", "e", "가", "나", "한국어", "👍", "日本", "ไทย", "שלום", "مرحبا", "é", "e\u0301", "ᄀ", "ᅡ")
TEXTS = st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join) | st.text(max_size=20)
THRESHOLDS = st.sampled_from([0.51, 0.6, 2 / 3, 0.7, 0.75, 0.8, 0.9, 1.0])


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


def indexed(texts, mode="unicode", threshold=0.7, ordered_at=None) -> LexicalIndex:
    """An index that never compares with all; its order renewed after `ordered_at` texts."""
    index = LexicalIndex(mode, threshold, scan_up_to=0)
    for n, text in enumerate(texts):
        assert index.add(text) == n
        if n == ordered_at:
            index._order_at = 0
            index.reorder()
    return index


def check_nearest(index: LexicalIndex, pool, text, excluding=(), since=0) -> None:
    scores = [plain_f1(text, item, index.mode) for item in pool]
    allowed = [n for n in range(since, len(pool)) if n not in excluding and scores[n] > index.threshold]
    match = index.nearest(text, excluding, since)
    if not allowed:
        assert match is None
        return
    best = max(scores[n] for n in allowed)
    assert (match.score, match.position) == (best, next(n for n in allowed if scores[n] == best))


@settings(max_examples=400)
@given(
    st.lists(TEXTS, max_size=12),
    TEXTS,
    st.sampled_from(["unicode", "paper"]),
    THRESHOLDS,
    st.none() | st.integers(0, 11),
    st.sets(st.integers(0, 11), max_size=3),
    st.integers(0, 4),
)
@example([""], "", "unicode", 0.7, None, set(), 0)
@example(["가"], "가", "paper", 0.7, None, set(), 0)
@example(["a"], "a", "paper", 1.0, None, set(), 0)
def test_lexical_index_is_the_plain_definition(pool, text, mode, threshold, ordered_at, excluding, since):
    index = indexed(pool, mode, threshold, ordered_at)
    check_nearest(index, pool, text, {n for n in excluding if n < len(pool)}, since)
    for match in index.k_nearest(text, 3):
        assert match.score == plain_f1(text, pool[match.position], mode)


@pytest.mark.parametrize("threshold", [0.55, 0.7, 0.85])
def test_it_finds_every_near_duplicate_among_sentences_that_share_many_words(threshold):
    rng = random.Random(threshold)
    words = [f"w{n}" for n in range(40)]
    pool = [" ".join(rng.choices(words, k=rng.randint(3, 30))) for _ in range(60)]
    pool += [" ".join(w for w in item.split() if rng.random() > 0.2) for item in pool]
    index = indexed(pool, "unicode", threshold, ordered_at=70)
    for text in [" ".join(w if rng.random() > 0.25 else rng.choice(words) for w in item.split()) for item in pool]:
        check_nearest(index, pool, text)


@pytest.mark.parametrize(("common", "rest"), [(10_000, 0), (9_000, 2_000), (7_000, 6_000)])
def test_rows_of_ten_thousand_words(common, rest):
    shared = [f"w{n % 900}" for n in range(common)]
    one, two = (" ".join([*shared, *(f"{mark}{n}" for n in range(rest))]) for mark in "xy")
    index = indexed(["short text", one], threshold=0.55)
    match = index.nearest(two)
    # Shared words stand first in both: they are the longest common subsequence.
    expected = common / (common + rest)
    assert (match.score if match else None) == (pytest.approx(expected) if expected > 0.55 else None)


def test_texts_of_one_token_repeated():
    pool = ["a", "a a", "a " * 7, "a " * 10, "a " * 5000]
    index = indexed(pool)
    for text in (*pool, "a " * 13, "a " * 9000, "b", ""):
        check_nearest(index, pool, text) if len(text) < 100 else None
        match = index.nearest(text)
        n = text.count("a")
        scores = [2 * min(n, item.count("a")) / (n + item.count("a")) for item in pool]
        assert (match.score if match else 0) == pytest.approx(max(s if s > 0.7 else 0 for s in scores))


def test_a_tie_at_the_threshold_falls_as_the_float_formula_says():
    # F1 is exactly 0.7 for all; the float formula gives 0.7 for some and a hair more for the others.
    decisions = set()
    for m in range(1, 60):
        for n in range(1, 60):
            if 7 * (m + n) % 20 == 0 and 7 * (m + n) // 20 <= min(m, n):
                common = 7 * (m + n) // 20
                shared = [f"s{i}" for i in range(common)]
                one = " ".join(shared + [f"x{i}" for i in range(m - common)])
                other = " ".join(shared + [f"y{i}" for i in range(n - common)])
                match = indexed([one], "paper").nearest(other)
                assert similarity(one, other, "paper") == plain_f1(other, one, "paper")
                assert (match is not None) == (plain_f1(other, one, "paper") > 0.7)
                decisions.add(match is not None)
    assert decisions == {True, False}


def test_paper_mode_decides_as_rouge_score_does():
    """On real sentences: half of them changed a little, so that many pairs are near the threshold."""
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"], use_stemmer=False)
    rng = random.Random(5)
    words = [
        "write",
        "a",
        "short",
        "poem",
        "about",
        "the",
        "sea",
        "list",
        "three",
        "uses",
        "of",
        "vinegar",
        "in",
        "your",
        "home",
        "and",
        "say",
        "why",
    ]
    pool = [" ".join(rng.choices(words, k=rng.randint(4, 16))) for _ in range(60)]
    queries = [" ".join(w if rng.random() > 0.3 else rng.choice(words) for w in item.split()) for item in pool]
    index = indexed(pool, "paper")
    decisions = [max(scorer.score(text, item)["rougeL"].fmeasure for item in pool) > 0.7 for text in queries]
    assert [index.nearest(text) is not None for text in queries] == decisions
    assert set(decisions) == {True, False}


def test_more_distinct_tokens_than_unicode_has_characters():
    index = LexicalIndex(scan_up_to=0)
    index.add("the first words are characters")
    index._next = 0x10FFFE
    pool = [
        "the first words are characters",
        "five fresh words stand here now",
        "seven newer ones come later the first",
    ]
    for text in pool[1:]:
        index.add(text)
    for text in (*pool, "five fresh words stand here", "newer ones come later the first"):
        check_nearest(index, pool, text)
    index._order_at = 0
    index.reorder()
    check_nearest(index, pool, "seven newer ones come later the second")


@pytest.mark.parametrize("threshold", [0.5, 0.0, 1.01, float("nan")])
def test_a_threshold_outside_its_range_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold"):
        LexicalIndex("unicode", threshold)


def test_queries_do_not_grow_the_index():
    index = indexed(["one two three"])
    index.nearest("one")
    before = index.nbytes
    for n in range(50):
        index.nearest(f"never seen {n}")
    assert index.nbytes == before


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def plain_cosines(pool: np.ndarray, query: np.ndarray) -> np.ndarray:
    a, b = pool.astype(np.float64), query.astype(np.float64)
    return (a @ b) / np.sqrt((a * a).sum(axis=1) * (b @ b))


@pytest.mark.parametrize("block", [7, 64, 8192])
def test_semantic_index_is_the_plain_definition(block):
    rng = np.random.default_rng(1)
    pool = unit(rng.standard_normal((300, 8)))
    queries = np.concatenate([unit(rng.standard_normal((40, 8))), pool[[0, 100, 299]]])
    excluding = [[] for _ in queries]
    excluding[-1], excluding[0] = [3 * 299], [3 * n for n in range(300)]
    index = SemanticIndex(block=block)
    for n, vector in enumerate(pool):
        index.add(3 * n, vector)
    for since in (0, 401, 897, 898):
        for query, without, match in zip(queries, excluding, index.nearest(queries, excluding, since), strict=True):
            cosines = plain_cosines(pool, query)
            left = [n for n in range(300) if 3 * n >= since and 3 * n not in without]
            if not left:
                assert match is None
                continue
            best = max(left, key=lambda n: cosines[n])
            assert match.position == 3 * best
            assert match.score == pytest.approx(cosines[best], abs=1e-12)


def test_equal_vectors_have_a_cosine_of_one_and_the_oldest_is_named():
    vector = unit(np.random.default_rng(2).standard_normal((1, 384)))[0]
    index = SemanticIndex()
    for position in range(40):
        index.add(position, vector)
    (match,) = index.nearest(vector)
    assert (match.position, match.score) == (0, 1.0)
    assert index.nearest(vector, [range(5)])[0].position == 5


def test_above_its_size_the_graph_finds_nearly_all_and_its_scores_are_exact():
    rng = np.random.default_rng(3)
    pool = unit(rng.standard_normal((3000, 32)))
    queries = unit(pool[:200] + 0.05 * rng.standard_normal((200, 32)))
    index = SemanticIndex(exact_up_to=2000, block=256)
    for position, vector in enumerate(pool[:2500]):
        index.add(position, vector)
    assert index._graph is None
    index.build_graph()
    assert index._graph is not None
    for position, vector in enumerate(pool[2500:], 2500):
        index.add(position, vector)
    matches = index.nearest(queries)
    assert sum(entry.position == n for n, entry in enumerate(matches)) >= 199
    for n, item in enumerate(matches):
        assert item.score == pytest.approx(plain_cosines(pool, queries[n])[item.position], abs=1e-12)
    late = index.nearest(pool[2999:], since=2900)
    assert late[0].position == 2999
    assert all(entry is None or entry.position != 0 for entry in index.nearest(pool[:1], [[0]]))


def test_a_vector_of_another_size_is_refused():
    index = SemanticIndex()
    assert index.nearest(np.ones((1, 9), dtype=np.float32)) == [None]
    index.add(0, np.ones(4, dtype=np.float32))
    with pytest.raises(ValueError, match="4 dimensions"):
        index.add(1, np.ones(5, dtype=np.float32))
    with pytest.raises(ValueError, match="4 dimensions"):
        index.nearest(np.ones((2, 5), dtype=np.float32))
    assert len(index) == 1
