"""Tokenising and normalising, for every script."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.synth.text import clean, content_hash, count_words, normalise, tokenise


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Hello, World's end", ["hello", "world", "s", "end"]),
        ("서울의 날씨", ["서", "울", "의", "날", "씨"]),
        ("日本語と English", ["日", "本", "語", "と", "english"]),
        ("ไทยดี", ["ไ", "ท", "ย", "ดี"]),
        ("café CAFÉ", ["café", "café"]),
        ("ok 👍🏽!", ["ok", "👍"]),
        ("?!", ["?", "!"]),
        ("   ", []),
        ("", []),
        ("שלום עולם", ["שלום", "עולם"]),
        ("v2.0 x_1", ["v2", "0", "x", "1"]),
    ],
)
def test_unicode_tokens(text, tokens):
    assert tokenise(text) == tokens


def test_decomposed_hangul_is_the_same_text():
    composed, decomposed = "한국어", "한국어"
    assert tokenise(composed) == tokenise(decomposed)
    assert content_hash(composed, "") == content_hash(decomposed, "")


def test_paper_tokens_are_those_of_rouge_score():
    assert tokenise("Don't PANIC: 42 서울", "paper") == ["don", "t", "panic", "42"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("one two three", 3), ("it's well-known", 2), ("서울의 날씨를 요약하세요", 3), ("日本語です", 3), ("", 0)],
)
def test_words_as_a_reader_counts(text, words):
    assert count_words(text) == words


@given(st.text())
def test_any_text_can_be_cleaned_stored_and_tokenised(text):
    cleaned = clean(text)
    cleaned.encode("utf-8")
    assert "\x00" not in cleaned
    assert normalise(normalise(cleaned)) == normalise(cleaned)
    assert bool(tokenise(cleaned)) == bool(cleaned.split())


def test_hash_tells_instruction_from_input():
    assert content_hash("a b", "") != content_hash("a", "b")
    assert content_hash("Same  Text", "x") == content_hash("same text", "X")
