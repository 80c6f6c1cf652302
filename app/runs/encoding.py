"""Embeddings for all batches of a slice: texts that come at about the same time are encoded together, each once."""

import asyncio
from collections.abc import Sequence

import numpy as np

from app.synth.types import Encode

# A reply's instructions are looked up at once: waiting this long for each other costs nothing beside a teacher's call.
GATHER_SECONDS = 0.03


class Encoding:
    """Use it in one event loop. Forgets nothing: it lives as long as a slice."""

    def __init__(self, encode: Encode):
        self._encode = encode
        self._known: dict[str, asyncio.Future[np.ndarray]] = {}
        self._waiting: list[str] = []

    async def one(self, text: str) -> np.ndarray:
        if text not in self._known:
            self._known[text] = asyncio.get_running_loop().create_future()
            self._waiting.append(text)
            if len(self._waiting) == 1:
                asyncio.create_task(self._work())  # noqa: RUF006 - the futures that it fills are awaited
        # Shielded: one chain that is cancelled must not take the vector from the others.
        return await asyncio.shield(self._known[text])

    async def many(self, texts: Sequence[str]) -> list[np.ndarray]:
        return await asyncio.gather(*(self.one(text) for text in texts))

    async def _work(self) -> None:
        await asyncio.sleep(GATHER_SECONDS)
        texts, self._waiting = self._waiting, []
        try:
            vectors = await asyncio.to_thread(self._encode, texts)
        except Exception as error:
            for text in texts:
                self._known.pop(text).set_exception(error)
            return
        for text, vector in zip(texts, vectors, strict=True):
            self._known[text].set_result(vector)
