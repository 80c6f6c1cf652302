"""ROUGE-L F1 between a text and a pool (Lin 2004; threshold from Self-Instruct, section 2.2), exact and indexed.

Each distinct token becomes one character, so that a token sequence is a `str` and rapidfuzz compares it
in C. The score is computed from the length of the longest common subsequence by the very formula of
rouge_score 0.1.2, floats included: at an exact tie with the threshold its decision is ours.

Only what can pass the threshold t is compared. F1 > t needs a common subsequence, hence a multiset overlap, of
at least a(n) = ceil(t n / (2 - t)) tokens with a text of n tokens. Under one fixed order of all elements, rarest
first, two texts that overlap so much share min(L, a) of the first n - a(n) + L elements of each: the l-prefix
scheme of set similarity joins (Bayardo et al. 2007; Wang et al. 2012), in its Dice form. An element is a token
with its occurrence number, so that repeated tokens count as often as they stand.
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

_FIRST, _SURROGATES, _AFTER, _LAST = 0x100, 0xD800, 0xE000, 0x10FFFF
# Stands for every token that the pool doesn't have: it is equal to none of the pool's.
_UNKNOWN = "\0"

# How many elements of their prefixes two texts must share. Measured at a pool of 100k instructions: 3 takes
# 0.49 ms a query, 4 0.31, 6 0.22; longer prefixes cost memory and no longer save comparisons.
_SHARED = 6
_FIRST_ORDER, _ORDER_GROWTH = 512, 4
# Below this, comparing with all is faster than asking the index.
_FEW = 128

Symbols = str | list[int]


@dataclass(frozen=True)
class Match:
    """A text of the pool, by its place in the order of adding, and its F1."""

    place: int
    score: float


class LexicalIndex:
    """Texts in the order in which they were added; finds the most similar one above the threshold, exactly.

    `threshold`: in (0.5, 1]. Memory: about 1 KB for a text of 40 tokens.
    """

    def __init__(self, mode: str = "unicode", threshold: float = 0.7, scan_up_to: int = _FEW):
        if not 0.5 < threshold <= 1:
            raise ValueError(f"a lexical threshold lies above 0.5 and at most at 1, not at {threshold}")
        self.mode, self.threshold, self._scan_up_to = mode, threshold, scan_up_to
        self._least = threshold / (2 - threshold)
        self._symbols: dict[str, str | int] = {}
        self._next = _FIRST
        self._sequences: list[Symbols] = []
        self._lengths = array("i")
        # An element's number is its place in the fixed order: the higher, the rarer.
        self._numbers: dict = {}
        self._postings: list[array | None] = []
        # Texts before this place are in the postings; the newer ones come in when they are next asked for.
        self._indexed = 0
        self._order_at = _FIRST_ORDER
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._sequences)

    @property
    def nbytes(self) -> int:
        """An estimate of the memory held."""
        return self._bytes + 200 * len(self._numbers) + 120 * len(self._symbols)

    def add(self, text: str) -> int:
        """The place of the text."""
        place, sequence = len(self._sequences), self._learn(text)
        self._sequences.append(sequence)
        self._lengths.append(len(sequence))
        return place

    def nearest(self, text: str, excluding: Collection[int] = (), since: int = 0) -> Match | None:
        """The text with the highest F1 above the threshold, the oldest of equal ones; None if there is none.

        Places in `excluding`, and those before `since`, are passed over.
        """
        tokens = tokenise(text, self.mode)
        if len(self) - since <= self._scan_up_to:
            places = np.arange(since, len(self))
        else:
            self._catch_up()
            places = self._candidates([self._symbols.get(token, _UNKNOWN) for token in tokens])
            places = places[np.searchsorted(places, since) :]
        if excluding:
            places = places[~np.isin(places, list(excluding))]
        scores = self._scores(self._known(tokens), places)
        best = int(scores.argmax()) if len(scores) else 0
        if not len(scores) or scores[best] <= self.threshold:
            return None
        return Match(int(places[best]), float(scores[best]))

    def scores(self, text: str, places: Sequence[int] | np.ndarray) -> np.ndarray:
        """F1 of the text with each of these, float64."""
        return self._scores(self._known(tokenise(text, self.mode)), np.asarray(places, dtype=np.int64))

    def similar(self, text: str, most: int) -> list[Match]:
        """The `most` nearest texts whatever their F1, nearest first: compared with the whole pool."""
        scores = self.scores(text, np.arange(len(self)))
        return [Match(int(place), float(scores[place])) for place in np.argsort(-scores, kind="stable")[:most]]

    def order(self) -> None:
        """Renew the order of elements by how often they stand, when the pool has grown enough for it to matter.

        Any fixed order is exact; a good one is fast. It takes seconds in a large pool: call it when nobody waits.
        """
        if len(self) < self._order_at:
            return
        frequency: Counter = Counter()
        for sequence in self._sequences:
            frequency.update(_elements(_symbols(sequence)))
        self._numbers = {element: number for number, (element, _) in enumerate(frequency.most_common())}
        self._postings = [None] * len(self._numbers)
        self._bytes = self._indexed = 0
        self._catch_up()
        self._order_at = _ORDER_GROWTH * len(self)

    def _catch_up(self) -> None:
        for place in range(self._indexed, len(self._sequences)):
            self._index(place, self._sequences[place])
        self._indexed = len(self._sequences)

    def _index(self, place: int, sequence: Symbols) -> None:
        numbers = []
        for element in _elements(_symbols(sequence)):
            number = self._numbers.get(element)
            if number is None:
                number = self._numbers[element] = len(self._postings)
                self._postings.append(None)
            numbers.append(number)
        numbers.sort(reverse=True)
        prefix = numbers[: len(numbers) - self._overlap(len(numbers)) + _SHARED]
        for number in prefix:
            posting = self._postings[number]
            if posting is None:
                posting = self._postings[number] = array("i")
                self._bytes += 80
            posting.append(place)
        self._bytes += 120 + 4 * len(sequence) + 5 * len(prefix)

    def _candidates(self, symbols: Sequence[str | int]) -> np.ndarray:
        """Places, in order, of all texts that may pass the threshold."""
        n = len(symbols)
        least = self._overlap(n)
        elements = _elements(symbols)
        known = [number for element in elements if (number := self._numbers.get(element)) is not None]
        # What the pool doesn't have is the rarest of all and takes the first places of the prefix.
        room = n - least + _SHARED - (len(elements) - len(known))
        known.sort(reverse=True)
        postings = [found for number in known[: max(0, room)] if (found := self._postings[number]) is not None]
        wanted = min(_SHARED, least)
        if not n or len(postings) < wanted:
            return np.empty(0, dtype=np.int64)
        shared = np.bincount(np.concatenate([np.frombuffer(found, dtype=np.int32) for found in postings]))
        places = np.flatnonzero(shared >= wanted)
        lengths = np.frombuffer(self._lengths, dtype=np.int32)[places]
        return places[(lengths >= self._least * n - 1e-9) & (lengths <= n / self._least + 1e-9)]

    def _overlap(self, length: int) -> int:
        """The least overlap that a text of this length has with any text that passes the threshold."""
        return math.ceil(self._least * length - 1e-9)

    def _scores(self, sequence: Symbols, places: np.ndarray) -> np.ndarray:
        n = len(sequence)
        if not n or not len(places):
            return np.zeros(len(places))
        m = np.frombuffer(self._lengths, dtype=np.int32)[places].astype(np.int64)
        texts = [self._sequences[place] for place in places]
        distances = process.cdist([sequence], texts, scorer=Indel.distance, dtype=np.int64)[0]
        common = (n + m - distances) // 2
        precision, recall = common / np.maximum(m, 1), common / n
        total = precision + recall
        return np.divide(2 * precision * recall, total, out=np.zeros(len(m)), where=total > 0)

    def _known(self, tokens: Sequence[str]) -> Symbols:
        return _sequence([self._symbols.get(token, _UNKNOWN) for token in tokens])

    def _learn(self, text: str) -> Symbols:
        return _sequence([self._symbols.get(token) or self._symbol(token) for token in tokenise(text, self.mode)])

    def _symbol(self, token: str) -> str | int:
        """A character of its own; past the last one of Unicode a number, which rapidfuzz takes in a list."""
        symbol = chr(self._next) if self._next <= _LAST else self._next
        self._symbols[token] = symbol
        self._next = _AFTER if self._next + 1 == _SURROGATES else self._next + 1
        return symbol


def _sequence(symbols: Sequence[str | int]) -> Symbols:
    try:
        return "".join(symbols)
    except TypeError:
        return [ord(symbol) if isinstance(symbol, str) else symbol for symbol in symbols]


def _symbols(sequence: Symbols) -> Sequence[str | int]:
    if isinstance(sequence, str):
        return sequence
    return [chr(one) if one <= _LAST else one for one in sequence]


def _elements(symbols: Sequence[str | int]) -> list:
    """Each token once as itself, and again as (token, occurrence) for each time that it stands again."""
    if len(set(symbols)) == len(symbols):
        return list(symbols)
    seen: dict = {}
    found = []
    for symbol in symbols:
        occurrence = seen[symbol] = seen.get(symbol, 0) + 1
        found.append(symbol if occurrence == 1 else (symbol, occurrence))
    return found


def similarity(one: str, two: str, mode: str = "unicode") -> float:
    """ROUGE-L F1 of two texts, 0 to 1."""
    index = LexicalIndex(mode)
    index.add(one)
    return float(index.scores(two, [0])[0])
