"""Embeddings for all batches of a time slice: texts that are requested together are encoded together, each once."""

import asyncio
from collections.abc import Sequence

import numpy as np

from app.runs.worker.micro_batcher import MicroBatcher
from app.synth.types import Encode

# A wait this short is nothing beside a teacher's call, and lets all instructions of one reply share a micro-batch.
GATHER_SECONDS = 0.03
# The maximum of texts in a micro-batch, so that the first one does not wait for hundreds of others.
MAX_TEXTS = 64
# The number of cached vectors, about a minute of a fast run. Admission needs the vector of a text again, which the
# prefilter has needed before.
MAX_CACHED = 4096


class AsyncEncoder:
    """Encodes texts in micro-batches and caches the newest vectors. Use it in one event loop.

    One micro-batch follows another: parallel ones would hold a thread each, and wait for the same encoder.

    Args:
        encode: the encoder, which takes a list of texts and returns a unit vector (float32) for each.
        max_cached: how many vectors are cached.
    """

    def __init__(self, encode: Encode, max_cached: int = MAX_CACHED):
        self._max_cached = max_cached
        self._batcher: MicroBatcher[str, np.ndarray] = MicroBatcher(encode, GATHER_SECONDS, MAX_TEXTS)
        self._cached: dict[str, asyncio.Task[np.ndarray]] = {}

    async def encode(self, text: str) -> np.ndarray:
        """Return the unit vector of the text, float32 of shape (dimensions,). Raises what the encoder raises."""
        if text not in self._cached:
            self._evict_oldest()
            self._cached[text] = asyncio.create_task(self._encode(text))
        # Several callers may await the same text: cancelling the first must not cancel the encoding for the others.
        return await asyncio.shield(self._cached[text])

    async def encode_many(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the vectors of the texts in their order."""
        return await asyncio.gather(*(self.encode(text) for text in texts))

    async def _encode(self, text: str) -> np.ndarray:
        try:
            return await self._batcher.submit(text)
        except BaseException:
            # A failure is not cached: the next caller encodes the text again.
            self._cached.pop(text, None)
            raise

    def _evict_oldest(self) -> None:
        while len(self._cached) >= self._max_cached:
            del self._cached[next(iter(self._cached))]
