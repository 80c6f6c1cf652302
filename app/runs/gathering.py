"""Work of a thread for many who ask at about the same time: done for all of them together, one round after another."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Gathering(Generic[Asked, Answer]):
    """`work` takes what was asked and gives the answers in the same order. Use it in one event loop.

    `seconds`: how long a round waits for more before it begins. `most`: how many it takes, so that the first need not
    wait for all.
    """

    def __init__(self, work: Callable[[Sequence[Asked]], Sequence[Answer]], seconds: float = 0.0, most: int = 2**31):
        self._work, self._seconds, self._most = work, seconds, most
        self._waiting: list[tuple[Asked, asyncio.Future[Answer]]] = []
        self._working: asyncio.Task | None = None

    @property
    def waiting(self) -> int:
        """How many wait for the next round."""
        return len(self._waiting)

    async def ask(self, asked: Asked) -> Answer:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, future))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._seconds)
            some, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            try:
                answers = await asyncio.to_thread(self._work, [asked for asked, _ in some])
            except Exception as error:
                for _, future in some:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), answer in zip(some, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
