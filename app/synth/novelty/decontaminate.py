"""Detection of evaluation items in training rows, by shared n-grams of words.

A row is contaminated when it shares 13 consecutive words with an evaluation item (Brown et al. 2020, appendix C).
Words are tokens of the `unicode` tokeniser. In scripts that it splits into characters or syllables two tokens count
as one word, so that a Korean or Chinese span must be about as long as an English one. Items shorter than 13 words are
matched whole, down to 8 words, the minimum n of that appendix. Still shorter items are matched by embeddings alone.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from app.synth.text import clean, is_character_token, locate_tokens

MIN_WORDS = 8
# Matches of one text; one is enough to reject it, and a person who checks it reads a few.
_MAX_ITEMS = 20

Token = tuple[str, int, int]


@dataclass(frozen=True)
class Span:
    """The longest stretch that a text shares with an item, characters `start` to `end`.

    `score`: the share of the item's n-grams that the text contains, 0 to 1.
    """

    item: Hashable
    start: int
    end: int
    score: float


class NgramIndex:
    """Evaluation items under their keys, matched by n-grams of `n` words. Memory: about 150 bytes an n-gram.

    `too_short`: how many items were too short to be indexed.
    """

    def __init__(self, n: int = 13):
        self.n = n
        self.too_short = 0
        self._grams: dict[int, list[Hashable]] = {}
        # Items shorter than n words, by their number of tokens: each length needs a window of its own.
        self._short: dict[int, dict[int, list[Hashable]]] = {}
        self._sizes: dict[Hashable, int] = {}

    def add(self, item: Hashable, text: str) -> None:
        """Index an item, or count it in `too_short`."""
        tokens = locate_tokens(clean(text))
        # Hashes and not texts: a large evaluation set has millions of n-grams.
        grams = {_hash_tokens(tokens, *window) for window in _windows(tokens, self.n)}
        if grams:
            for gram in grams:
                self._grams.setdefault(gram, []).append(item)
            self._sizes[item] = len(grams)
        elif _count_words(tokens) >= min(MIN_WORDS, self.n):
            items_by_hash = self._short.setdefault(len(tokens), {})
            items_by_hash.setdefault(_hash_tokens(tokens, 0, len(tokens)), []).append(item)
            self._sizes[item] = 1
        else:
            self.too_short += 1

    def find(self, text: str) -> list[Span]:
        """Return the matches of up to 20 items in a text, the highest score first."""
        tokens = locate_tokens(text)
        hits: dict[Hashable, list[tuple[int, int]]] = {}
        grams: dict[Hashable, set[int]] = {}
        for (first, end), gram in self._iterate_grams(tokens):
            for item in self._items_with(gram, end - first):
                hits.setdefault(item, []).append((first, end))
                grams.setdefault(item, set()).add(gram)
        # The score counts distinct n-grams, so that a phrase that a row repeats does not look like more of the item.
        spans = []
        for item, windows in hits.items():
            first, end = _longest_stretch(windows)
            score = len(grams[item]) / self._sizes[item]
            spans.append(Span(item, tokens[first][1], tokens[end - 1][2], min(1.0, score)))
        # A text may share a common phrase with thousands of items; the first ones are enough to reject it.
        return sorted(spans, key=lambda span: -span.score)[:_MAX_ITEMS]

    def _iterate_grams(self, tokens: Sequence[Token]) -> Iterator[tuple[tuple[int, int], int]]:
        for window in _windows(tokens, self.n):
            yield window, _hash_tokens(tokens, *window)
        for length in self._short:
            for first in range(len(tokens) - length + 1):
                yield (first, first + length), _hash_tokens(tokens, first, first + length)

    def _items_with(self, gram: int, length: int) -> list[Hashable]:
        return [*self._grams.get(gram, ()), *self._short.get(length, {}).get(gram, ())]


def _windows(tokens: Sequence[Token], n: int) -> Iterator[tuple[int, int]]:
    """Return (first, end) of the shortest window of at least n words from each token on."""
    # Counted in half words, since a syllable is half a word and integers add up exactly.
    end = half_words = 0
    for first in range(len(tokens)):
        while end < len(tokens) and half_words < 2 * n:
            half_words += _half_words(tokens[end])
            end += 1
        if half_words < 2 * n:
            return
        yield first, end
        half_words -= _half_words(tokens[first])


def _half_words(token: Token) -> int:
    return 1 if is_character_token(token[0]) else 2


def _count_words(tokens: Sequence[Token]) -> float:
    return sum(_half_words(token) for token in tokens) / 2


def _hash_tokens(tokens: Sequence[Token], first: int, end: int) -> int:
    return hash("\x1f".join(token for token, _, _ in tokens[first:end]))


def _longest_stretch(windows: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the longest stretch that overlapping or adjacent windows form."""
    best = current = windows[0]
    for first, end in sorted(windows):
        # Adjacent windows of one item are one passage, which a person reads as a whole.
        current = (current[0], max(current[1], end)) if first <= current[1] else (first, end)
        if current[1] - current[0] > best[1] - best[0]:
            best = current
    return best
