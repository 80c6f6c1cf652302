"""Whether a text is new to a pool, and what a row is compared by."""

import numpy as np
import pytest

from app.synth.novelty.pool import Pool, Thresholds, comparison_text, identity
from app.synth.types import Candidate, Turn
from tests.fakes import hash_encoder, unlike


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("서울의 날씨를 요약하세요", "서울 날씨를 요약해 주세요."),
        ("List three uses of vinegar at home.", "list three uses of vinegar at home"),
        ("天気予報を要約してください", "天気予報を要約して下さい"),
    ],
)
def test_near_duplicates_are_caught_in_every_script(entry, text):
    pool = Pool()
    pool.add("first", entry, None)
    rejection = pool.check_lexical(text)
    assert (rejection.reason, rejection.nearest_id, rejection.nearest_text) == ("duplicate_lexical", "first", entry)
    assert rejection.value > rejection.threshold == 0.7


def test_semantic_duplicates_name_their_neighbour():
    pool = Pool(Thresholds(lexical=0.7, semantic=0.9))
    vector = hash_encoder(["x"])[0]
    pool.add("first", "Name a fruit", vector)
    rejection = pool.check("Tell me something that grows on trees", vector)
    assert (rejection.reason, rejection.nearest_id, rejection.nearest_text) == (
        "duplicate_semantic",
        "first",
        "Name a fruit",
    )
    assert pool.check("Tell me something that grows on trees", -vector) is None


def test_many_at_once_are_what_one_by_one_would_be():
    pool = Pool()
    texts = [f"Explain {unlike(n)}" for n in range(200)]
    for text, vector in zip(texts, hash_encoder(texts), strict=True):
        pool.add(text, text, vector)
    requests = [*texts[:50:5], *(f"Explain {unlike(n)}" for n in range(300, 320)), "Describe the tides"]
    vectors = [*hash_encoder(requests)[:-1], hash_encoder(texts)[7]]
    excluding = [[text] if n % 2 else [] for n, text in enumerate(requests)]
    together = pool.check_all(requests, vectors, excluding)
    assert together == [pool.check(*item) for item in zip(requests, vectors, excluding, strict=True)]
    assert [rejection.reason if rejection else None for rejection in together] == (
        ["duplicate_lexical", None] * 5 + [None] * 20 + ["duplicate_semantic"]
    )


def test_rows_before_a_place_can_be_passed_over():
    pool = Pool()
    texts = ["Name a red fruit that grows on trees", "Say how the tides come about at sea"]
    for text, vector in zip(texts, hash_encoder(texts), strict=True):
        pool.add(text, text, vector)
    vectors = list(hash_encoder(texts))
    rejections = pool.check_all(texts, vectors, [(), ()], since=1)
    assert [item.nearest_id if item else None for item in rejections] == [None, texts[1]]
    assert pool.check_all(texts, vectors, [(), ()], since=2) == [None, None]


def test_neighbours_have_both_scores_and_the_best_comes_first():
    pool = Pool()
    texts = ["Name a red fruit", "Name a green fruit", "How do tides come about?"]
    vectors = hash_encoder(texts)
    for text, vector in zip(texts, vectors, strict=True):
        pool.add(text, text, vector if text != texts[1] else None)
    near = pool.neighbours("Name a red fruit", vectors[2], 2)
    assert [item.id for item in near] == [texts[0], texts[2]]
    assert near[0].lexical == 1.0 and near[1].semantic == pytest.approx(1.0)
    assert near[0].semantic == pytest.approx(float(vectors[0] @ vectors[2]), abs=1e-6)
    assert pool.neighbours("Name a red fruit", None, 5, excluding=[texts[0]])[0].id == texts[1]
    assert pool.neighbours("Name a red fruit", vectors[2], 3)[-1].semantic is None


def test_a_vector_of_another_size_changes_nothing():
    pool = Pool()
    pool.add("first", "Name a fruit", np.ones(4, dtype=np.float32) / 2)
    with pytest.raises(ValueError, match="4 dimensions"):
        pool.add("second", "Name a town", np.ones(5, dtype=np.float32))
    assert len(pool) == 1 and pool.check_lexical("Name a town") is None


@pytest.mark.parametrize(
    ("scope", "text"),
    [("instruction", "Add"), ("instruction_input", "Add\n1 and 2"), ("row", "Add\n1 and 2\n3")],
)
def test_a_row_is_compared_by_as_much_as_the_scope_says(scope, text):
    assert comparison_text(scope, Candidate("Add", "1 and 2", "3")) == text


def test_a_dialogue_is_compared_by_all_its_turns():
    turns = (Turn("user", "Hi"), Turn("assistant", "Hello"), Turn("user", "Bye"), Turn("assistant", "See you"))
    assert comparison_text("row", Candidate("Hi", "", "See you", messages=turns)) == "Hi\nHello\nBye\nSee you"


def test_outputs_tell_rows_apart_only_where_whole_rows_are_compared():
    one, two = Candidate("Add", "1", "2"), Candidate("Add", "1", "3")
    assert identity(one) == identity(two)
    assert identity(one, "row") != identity(two, "row")
