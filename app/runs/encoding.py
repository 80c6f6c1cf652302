"""Embeddings for all batches of a slice: texts that come at about the same time are encoded together, each once."""

import asyncio
from collections.abc import Sequence

import numpy as np

from app.runs.gathering import Gathering
from app.synth.types import Encode

# A reply's instructions are looked up at once: waiting this long for each other costs nothing beside a teacher's call.
GATHER_SECONDS, MOST_AT_ONCE = 0.03, 64
# About a minute of a fast run: a text is asked for again when its batch is admitted. One forgotten is encoded again.
MOST_KNOWN = 4096


class Encoding:
    """Use it in one event loop. One round after another: several at once would hold a thread each, and wait for the
    encoder all the same."""

    def __init__(self, encode: Encode, most_known: int = MOST_KNOWN):
        self._most_known = most_known
        self._rounds: Gathering[str, np.ndarray] = Gathering(encode, GATHER_SECONDS, MOST_AT_ONCE)
        self._known: dict[str, asyncio.Task[np.ndarray]] = {}

    async def one(self, text: str) -> np.ndarray:
        if text not in self._known:
            self._forget_the_oldest()
            self._known[text] = asyncio.create_task(self._encoded(text))
        # Shielded: one chain that is cancelled must not take the vector from the others.
        return await asyncio.shield(self._known[text])

    async def many(self, texts: Sequence[str]) -> list[np.ndarray]:
        return await asyncio.gather(*(self.one(text) for text in texts))

    async def _encoded(self, text: str) -> np.ndarray:
        try:
            return await self._rounds.ask(text)
        except BaseException:
            # Who asks next has another try.
            self._known.pop(text, None)
            raise

    def _forget_the_oldest(self) -> None:
        while len(self._known) >= self._most_known:
            del self._known[next(iter(self._known))]
