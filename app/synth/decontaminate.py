"""Looking for texts of an evaluation set in training rows, by shared n-grams of words.

A row is contaminated when it has 13 words in a row from an evaluation item (Brown et al. 2020, appendix C). Words
are those of the `unicode` tokeniser; in scripts that it takes by the character or syllable, two of them count as
one word, so that a Korean or Chinese span must be about as long as an English one. Shorter items are looked for
whole, down to 8 words, the least n of that appendix; what is shorter still is left to the embeddings.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from app.synth.text import clean, is_character_token, placed_tokens

SHORTEST = 8
_MOST_ITEMS = 20

Token = tuple[str, int, int]


@dataclass(frozen=True)
class Span:
    """What a text has of an item: characters `start` to `end`, the longest stretch; and the share of its n-grams."""

    item: Hashable
    start: int
    end: int
    score: float


class NgramIndex:
    """Evaluation items under their keys. Memory: about 150 bytes an n-gram."""

    def __init__(self, n: int = 13):
        self.n = n
        self.too_short = 0
        self._grams: dict[int, list[Hashable]] = {}
        # Of items shorter than n words, by their number of tokens.
        self._short: dict[int, dict[int, list[Hashable]]] = {}
        self._sizes: dict[Hashable, int] = {}

    def add(self, item: Hashable, text: str) -> None:
        tokens = placed_tokens(clean(text))
        grams = {_hash(tokens, *place) for place in _windows(tokens, self.n)}
        if grams:
            for gram in grams:
                self._grams.setdefault(gram, []).append(item)
            self._sizes[item] = len(grams)
        elif _words(tokens) >= min(SHORTEST, self.n):
            found = self._short.setdefault(len(tokens), {})
            found.setdefault(_hash(tokens, 0, len(tokens)), []).append(item)
            self._sizes[item] = 1
        else:
            self.too_short += 1

    def find(self, text: str) -> list[Span]:
        """The items of which the text has something, those with the greatest share first."""
        tokens = placed_tokens(text)
        hits: dict[Hashable, list[tuple[int, int]]] = {}
        grams: dict[Hashable, set[int]] = {}
        for (first, end), gram in self._grams_of(tokens):
            for item in self._items(gram, end - first):
                hits.setdefault(item, []).append((first, end))
                grams.setdefault(item, set()).add(gram)
        spans = []
        for item, places in hits.items():
            first, end = _longest(places)
            score = len(grams[item]) / self._sizes[item]
            spans.append(Span(item, tokens[first][1], tokens[end - 1][2], min(1.0, score)))
        return sorted(spans, key=lambda span: -span.score)[:_MOST_ITEMS]

    def _grams_of(self, tokens: Sequence[Token]) -> Iterator[tuple[tuple[int, int], int]]:
        for place in _windows(tokens, self.n):
            yield place, _hash(tokens, *place)
        for length in self._short:
            for first in range(len(tokens) - length + 1):
                yield (first, first + length), _hash(tokens, first, first + length)

    def _items(self, gram: int, length: int) -> list[Hashable]:
        return [*self._grams.get(gram, ()), *self._short.get(length, {}).get(gram, ())]


def _windows(tokens: Sequence[Token], n: int) -> Iterator[tuple[int, int]]:
    """(first, end) of the shortest stretch of at least n words from each token on."""
    # In halves, so that sums are exact.
    end = halves = 0
    for first in range(len(tokens)):
        while end < len(tokens) and halves < 2 * n:
            halves += _halves(tokens[end])
            end += 1
        if halves < 2 * n:
            return
        yield first, end
        halves -= _halves(tokens[first])


def _halves(token: Token) -> int:
    return 1 if is_character_token(token[0]) else 2


def _words(tokens: Sequence[Token]) -> float:
    return sum(_halves(token) for token in tokens) / 2


def _hash(tokens: Sequence[Token], first: int, end: int) -> int:
    return hash("\x1f".join(token for token, _, _ in tokens[first:end]))


def _longest(places: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The longest stretch that the overlapping or touching places make together."""
    best = current = places[0]
    for first, end in sorted(places):
        current = (current[0], max(current[1], end)) if first <= current[1] else (first, end)
        if current[1] - current[0] > best[1] - best[0]:
            best = current
    return best
