"""Evaluation texts in training rows: found by shared n-grams, in every script."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.synth.novelty.decontaminate import NgramIndex
from app.synth.text import locate_tokens

ITEM = "Natalia sold clips to 48 of her friends in April and then she sold half as many clips in May"
KOREAN = "서울에서 부산까지 기차로 두 시간 사십 분이 걸린다면 왕복에는 모두 몇 시간이 걸리는지 계산해 보세요"
CHINESE = "如果一列火车从首尔到釜山需要两小时四十分钟那么往返一共需要多少小时请计算一下结果"


def index_of(*texts: str, n: int = 13) -> NgramIndex:
    index = NgramIndex(n)
    for key, text in enumerate(texts):
        index.add(key, text)
    return index


@pytest.mark.parametrize("text", [ITEM, KOREAN, CHINESE])
def test_a_copy_is_found_whatever_stands_around_it(text):
    around = f"앞 Before. {text}! 뒤 after"
    (match,) = index_of("Another one, of which there is nothing in the text at all, as far as we know it", text).find(
        around
    )
    assert (match.item, match.score) == (1, 1.0)
    assert around[match.start : match.end] == text


def test_case_and_punctuation_do_not_hide_a_copy():
    words = ITEM.upper().replace(" ", ",  ")
    assert index_of(ITEM).find(words)[0].score == 1.0


@pytest.mark.parametrize(("words", "matches"), [(12, False), (13, True)])
def test_thirteen_words_in_a_row_are_a_match_and_twelve_are_not(words, matches):
    part = " ".join(ITEM.split()[:words])
    spans = index_of(ITEM).find(f"He said: {part} or so")
    assert [(span.item, round(span.score, 3)) for span in spans] == ([(0, round(1 / 8, 3))] if matches else [])


@pytest.mark.parametrize(("syllables", "matches"), [(25, False), (26, True)])
def test_two_syllables_count_as_a_word(syllables, matches):
    tokens = locate_tokens(KOREAN)
    part = KOREAN[: tokens[syllables - 1][2]]
    assert bool(index_of(KOREAN).find(f"문제 {part}")) == matches


def test_short_items_are_looked_for_whole_and_the_shortest_not_at_all():
    nine, seven = " ".join(ITEM.split()[:9]), " ".join(ITEM.split()[:7])
    index = index_of(nine, seven)
    assert index.too_short == 1
    assert [span.item for span in index.find(ITEM)] == [0]
    assert index.find(" ".join(ITEM.split()[:8])) == []


def test_the_longest_stretch_is_the_span():
    words = [f"w{n}" for n in range(60)]
    text = " ".join([*words[:14], "gap", *words[20:50]])
    (match,) = index_of(" ".join(words)).find(text)
    assert text[match.start : match.end] == " ".join(words[20:50])
    assert match.score == pytest.approx((2 + 18) / 48)


WORD = st.sampled_from(["a", "b", "c", "가", "나", "日", "語", "don't", "👍"])


@settings(max_examples=300)
@given(st.lists(WORD, max_size=25), st.lists(WORD, max_size=25), st.integers(3, 6))
def test_it_finds_just_what_a_search_for_every_stretch_would(item, text, n):
    """The plain definition: some stretch of at least n words of the item stands in the text."""
    item, text = " ".join(item), " ".join(text)

    def halves(tokens):
        return sum(1 if token in "가나日語" else 2 for token in tokens)

    a, b = ([token for token, _, _ in locate_tokens(part)] for part in (item, text))
    stretches = {tuple(a[i:j]) for i in range(len(a)) for j in range(i, len(a) + 1) if halves(a[i:j]) >= 2 * n}
    if not stretches and halves(a) >= 2 * min(n, 8):
        stretches = {tuple(a)}
    there = {tuple(b[i:j]) for i in range(len(b)) for j in range(i, len(b) + 1)}
    assert bool(index_of(item, n=n).find(text)) == bool(stretches & there)


def test_many_items_that_share_a_phrase_are_reported_by_their_share():
    rng = random.Random(1)
    phrase = [f"p{n}" for n in range(13)]
    items = [" ".join(phrase + [f"x{rng.random()}" for _ in range(k)]) for k in range(50)]
    spans = index_of(*items).find(" ".join(phrase))
    assert len(spans) == 20 and [span.item for span in spans[:2]] == [0, 1]
