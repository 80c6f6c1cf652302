"""ROUGE-L F1 between an instruction and a pool (Lin 2004; threshold from Self-Instruct, section 2.2).

Each distinct token becomes one character, so that a token sequence is a `str` and rapidfuzz compares it
in C. The score is computed from the length of the longest common subsequence by the very formula of
rouge_score, floats included: at an exact tie with the threshold its decision is ours.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import Indel

from app.synth.text import tokenise

_FIRST, _SURROGATES, _AFTER, _LAST = 0x100, 0xD800, 0xE000, 0x10FFFF


@dataclass(frozen=True)
class Match:
    id: str
    text: str
    score: float


class LexicalIndex:
    """Instructions under their ids; finds the most similar one. Memory: about 1 KB a text."""

    def __init__(self, mode: str = "unicode"):
        self.mode = mode
        self._characters: dict[str, str] = {}
        self._next = _FIRST
        self._ids: list[str] = []
        self._places: dict[str, int] = {}
        self._texts: list[str] = []
        self._sequences: list[str] = []
        self._lengths = np.zeros(64, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, id: str, text: str) -> None:
        sequence = self._sequence(text)
        if len(self._ids) == len(self._lengths):
            self._lengths = np.concatenate([self._lengths, np.zeros_like(self._lengths)])
        self._lengths[len(self._ids)] = len(sequence)
        self._places[id] = len(self._ids)
        self._ids.append(id)
        self._texts.append(text)
        self._sequences.append(sequence)

    def nearest(self, text: str, excluding: Collection[str] = ()) -> Match | None:
        """The text of the pool with the highest F1; None when the pool is empty or nothing is shared.

        The ids `excluding` are passed over; those that are not here don't matter.
        """
        sequence = self._sequence(text)
        if not self._ids or not sequence:
            return None
        scores = self._scores(sequence)
        scores[[self._places[id] for id in excluding if id in self._places]] = 0
        best = int(scores.argmax())
        if scores[best] <= 0:
            return None
        return Match(self._ids[best], self._texts[best], float(scores[best]))

    def _scores(self, sequence: str) -> np.ndarray:
        n = len(sequence)
        m = self._lengths[: len(self._ids)]
        distances = process.cdist([sequence], self._sequences, scorer=Indel.distance, dtype=np.int64)[0]
        common = (n + m - distances) // 2
        precision, recall = common / np.maximum(m, 1), common / n
        total = precision + recall
        return np.divide(2 * precision * recall, total, out=np.zeros(len(m)), where=total > 0)

    def _sequence(self, text: str) -> str:
        return "".join(self._character(token) for token in tokenise(text, self.mode))

    def _character(self, token: str) -> str:
        known = self._characters.get(token)
        if known is None:
            if self._next > _LAST:
                raise OverflowError("more than 1.1 million distinct tokens in one pool")
            known = self._characters[token] = chr(self._next)
            self._next = _AFTER if self._next + 1 == _SURROGATES else self._next + 1
        return known


def similarity(one: str, two: str, mode: str = "unicode") -> float:
    """ROUGE-L F1 of two texts, 0 to 1."""
    index = LexicalIndex(mode)
    index.add("", one)
    found = index.nearest(two)
    return found.score if found else 0.0
