"""ROUGE-L F1 between a text and a pool (Lin 2004; threshold from Self-Instruct, section 2.2), exact and indexed.

Each distinct token becomes one character, so that a token sequence is a `str` and rapidfuzz compares it
in C. The score is computed from the length of the longest common subsequence by the formula of rouge_score 0.1.2,
in the same order of float operations, so that both libraries decide alike at an exact tie with the threshold.

The index compares only texts that can pass the threshold t. F1 > t needs a common subsequence, hence a multiset
overlap, of at least a(n) = ceil(t n / (2 - t)) tokens with a text of n tokens. Under one fixed order of all elements,
rarest first, two texts that overlap so much share min(L, a) of the first n - a(n) + L elements of each: the l-prefix
scheme of set similarity joins (Bayardo et al. 2007; Wang et al. 2012), in its Dice form. An element is a token with
its occurrence number, so that a repeated token counts once for each occurrence.
"""

import math
from array import array
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import Indel

from app.synth.text import tokenise

# Symbols are code points above Latin-1; surrogates are left out, being no characters.
_FIRST, _SURROGATES, _AFTER, _LAST = 0x100, 0xD800, 0xE000, 0x10FFFF
# Every query token that the pool does not have maps to this symbol. No symbol of the pool equals it.
_UNKNOWN = "\0"

# The minimum of elements that the prefixes of two texts must share (the l of the l-prefix scheme). Measured at a
# pool of 100k instructions: 3 takes 0.49 ms a query, 4 takes 0.31, 6 takes 0.22; above 6 the longer prefixes cost
# memory and save no more comparisons.
_MIN_SHARED = 6
_FIRST_REORDER_AT, _REORDER_GROWTH = 512, 4
# Up to this many texts, comparing with all of them is faster than a look-up in the postings.
_EXHAUSTIVE_UP_TO = 128

Symbols = str | list[int]


@dataclass(frozen=True)
class Match:
    """A match: the position of a text in the order of adding, from 0, and its F1, 0 to 1."""

    position: int
    score: float


class LexicalIndex:
    """Finds the text with the highest ROUGE-L F1 above a threshold, exactly (Lin 2004).

    Memory: about 1 KB for a text of 40 tokens.

    Args:
        mode: the tokeniser, `unicode` or `paper` (see app.synth.text).
        threshold: F1 that a match exceeds, in (0.5, 1].
        scan_up_to: number of texts up to which a query is compared with all of them.

    Raises:
        ValueError: the threshold is outside (0.5, 1].
    """

    def __init__(self, mode: str = "unicode", threshold: float = 0.7, scan_up_to: int = _EXHAUSTIVE_UP_TO):
        if not 0.5 < threshold <= 1:
            raise ValueError(f"a lexical threshold lies above 0.5 and at most at 1, not at {threshold}")
        self.mode, self.threshold, self._scan_up_to = mode, threshold, scan_up_to
        self._min_overlap_share = threshold / (2 - threshold)
        self._symbols: dict[str, str | int] = {}
        self._next_code = _FIRST
        self._sequences: list[Symbols] = []
        self._lengths = array("i")
        # The rank of an element in the fixed order: the higher, the rarer.
        self._numbers: dict = {}
        self._postings: list[array | None] = []
        # Texts before this position are in the postings. Newer texts are added there by the next query, so that a
        # pool that only grows pays nothing for an index.
        self._indexed = 0
        self._reorder_at = _FIRST_REORDER_AT
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._sequences)

    @property
    def nbytes(self) -> int:
        """An estimate of the memory in use, in bytes."""
        return self._bytes + 200 * len(self._numbers) + 120 * len(self._symbols)

    def add(self, text: str) -> int:
        """Add a text and return its position."""
        position, sequence = len(self._sequences), self._encode_entry(text)
        self._sequences.append(sequence)
        self._lengths.append(len(sequence))
        return position

    def nearest(self, text: str, excluding: Collection[int] = (), since: int = 0) -> Match | None:
        """Return the text with the highest F1 above the threshold; the oldest wins a tie; None when no text passes.

        Args:
            text: the query.
            excluding: positions that are not compared.
            since: the first position that is compared.
        """
        tokens = tokenise(text, self.mode)
        # A small pool needs no postings: a scan in C is faster than their look-up in Python.
        if len(self) - since <= self._scan_up_to:
            positions = np.arange(since, len(self))
        else:
            self._index_new_entries()
            positions = self._find_candidates([self._symbols.get(token, _UNKNOWN) for token in tokens])
            positions = positions[np.searchsorted(positions, since) :]
        if excluding:
            positions = positions[~np.isin(positions, list(excluding))]
        scores = self._score_positions(self._encode_query(tokens), positions)
        # argmax returns the first maximum, and positions ascend: the oldest text wins.
        best = int(scores.argmax()) if len(scores) else 0
        if not len(scores) or scores[best] <= self.threshold:
            return None
        return Match(int(positions[best]), float(scores[best]))

    def scores(self, text: str, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return F1 of the text with the text at each position: float64 of shape (positions,)."""
        query = self._encode_query(tokenise(text, self.mode))
        return self._score_positions(query, np.asarray(positions, dtype=np.int64))

    def k_nearest(self, text: str, k: int) -> list[Match]:
        """Return the k texts with the highest F1, best first, without a threshold. Compares with the whole pool."""
        scores = self.scores(text, np.arange(len(self)))
        return [Match(int(position), float(scores[position])) for position in np.argsort(-scores, kind="stable")[:k]]

    def reorder(self) -> None:
        """Sort the elements by frequency again once the pool has grown fourfold, and rebuild the postings.

        Any fixed order gives exact results; rarest first gives short candidate lists. In a large pool this takes
        seconds, so call it outside of a request.
        """
        if len(self) < self._reorder_at:
            return
        # By frequency in the whole pool, since a rare element has a short posting and so few candidates.
        frequency: Counter = Counter()
        for sequence in self._sequences:
            frequency.update(_number_occurrences(_split_symbols(sequence)))
        self._numbers = {element: number for number, (element, _) in enumerate(frequency.most_common())}
        self._postings = [None] * len(self._numbers)
        self._bytes = self._indexed = 0
        self._index_new_entries()
        self._reorder_at = _REORDER_GROWTH * len(self)

    def _index_new_entries(self) -> None:
        for position in range(self._indexed, len(self._sequences)):
            self._index_entry(position, self._sequences[position])
        self._indexed = len(self._sequences)

    def _index_entry(self, position: int, sequence: Symbols) -> None:
        numbers = []
        for element in _number_occurrences(_split_symbols(sequence)):
            number = self._numbers.get(element)
            if number is None:
                number = self._numbers[element] = len(self._postings)
                self._postings.append(None)
            numbers.append(number)
        numbers.sort(reverse=True)
        # Only a prefix is indexed: by the l-prefix scheme two similar texts share enough of it (see the module).
        prefix = numbers[: len(numbers) - self._min_overlap(len(numbers)) + _MIN_SHARED]
        for number in prefix:
            posting = self._postings[number]
            if posting is None:
                posting = self._postings[number] = array("i")
                self._bytes += 80
            posting.append(position)
        self._bytes += 120 + 4 * len(sequence) + 5 * len(prefix)

    def _find_candidates(self, symbols: Sequence[str | int]) -> np.ndarray:
        """Return the positions, ascending, of all texts that may pass the threshold."""
        length = len(symbols)
        min_overlap = self._min_overlap(length)
        elements = _number_occurrences(symbols)
        numbers = [number for element in elements if (number := self._numbers.get(element)) is not None]
        # Elements that the pool does not have are the rarest of all, so they fill the head of the query's prefix.
        prefix_length = length - min_overlap + _MIN_SHARED - (len(elements) - len(numbers))
        numbers.sort(reverse=True)
        postings = [
            posting for number in numbers[: max(0, prefix_length)] if (posting := self._postings[number]) is not None
        ]
        min_shared = min(_MIN_SHARED, min_overlap)
        if not length or len(postings) < min_shared:
            return np.empty(0, dtype=np.int64)
        shared = np.bincount(np.concatenate([np.frombuffer(posting, dtype=np.int32) for posting in postings]))
        positions = np.flatnonzero(shared >= min_shared)
        lengths = np.frombuffer(self._lengths, dtype=np.int32)[positions]
        # F1 also bounds the ratio of the lengths; the hair of 1e-9 keeps a rounded bound from losing a match.
        return positions[
            (lengths >= self._min_overlap_share * length - 1e-9) & (lengths <= length / self._min_overlap_share + 1e-9)
        ]

    def _min_overlap(self, length: int) -> int:
        """Return the minimum overlap of a text of this length with a text that passes the threshold, in elements."""
        return math.ceil(self._min_overlap_share * length - 1e-9)

    def _score_positions(self, sequence: Symbols, positions: np.ndarray) -> np.ndarray:
        length = len(sequence)
        if not length or not len(positions):
            return np.zeros(len(positions))
        lengths = np.frombuffer(self._lengths, dtype=np.int32)[positions].astype(np.int64)
        texts = [self._sequences[position] for position in positions]
        # The distance counts insertions and deletions alone: |a| + |b| - 2 LCS.
        # One call for all positions: rapidfuzz prepares the query once and compares in C.
        distances = process.cdist([sequence], texts, scorer=Indel.distance, dtype=np.int64)[0]
        lcs_lengths = (length + lengths - distances) // 2
        precision, recall = lcs_lengths / np.maximum(lengths, 1), lcs_lengths / length
        total = precision + recall
        return np.divide(2 * precision * recall, total, out=np.zeros(len(lengths)), where=total > 0)

    def _encode_query(self, tokens: Sequence[str]) -> Symbols:
        return _join_symbols([self._symbols.get(token, _UNKNOWN) for token in tokens])

    def _encode_entry(self, text: str) -> Symbols:
        return _join_symbols(
            [self._symbols.get(token) or self._new_symbol(token) for token in tokenise(text, self.mode)]
        )

    def _new_symbol(self, token: str) -> str | int:
        """Return a character that stands for this token.

        Past the end of Unicode it is a number, which rapidfuzz accepts in a list.
        """
        symbol = chr(self._next_code) if self._next_code <= _LAST else self._next_code
        self._symbols[token] = symbol
        self._next_code = _AFTER if self._next_code + 1 == _SURROGATES else self._next_code + 1
        return symbol


def _join_symbols(symbols: Sequence[str | int]) -> Symbols:
    # A str is compared several times faster than a list, so a list is the exception.
    try:
        return "".join(symbols)
    except TypeError:
        return [ord(symbol) if isinstance(symbol, str) else symbol for symbol in symbols]


def _split_symbols(sequence: Symbols) -> Sequence[str | int]:
    if isinstance(sequence, str):
        return sequence
    return [chr(symbol) if symbol <= _LAST else symbol for symbol in sequence]


def _number_occurrences(symbols: Sequence[str | int]) -> list:
    """Return the first occurrence of a token as itself, each later one as (token, occurrence number)."""
    if len(set(symbols)) == len(symbols):
        return list(symbols)
    occurrences: dict = {}
    elements = []
    for symbol in symbols:
        occurrence = occurrences[symbol] = occurrences.get(symbol, 0) + 1
        elements.append(symbol if occurrence == 1 else (symbol, occurrence))
    return elements


def similarity(first: str, second: str, mode: str = "unicode") -> float:
    """Return ROUGE-L F1 of two texts (Lin 2004), 0 to 1.

    Args:
        first: a text.
        second: another text; the order does not matter.
        mode: the tokeniser, `unicode` or `paper`.
    """
    index = LexicalIndex(mode)
    index.add(first)
    return float(index.scores(second, [0])[0])
