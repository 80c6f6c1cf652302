"""Requests that come at about the same time are worked on together by one thread, one batch after another."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Request = TypeVar("Request")
Result = TypeVar("Result")


class MicroBatcher(Generic[Request, Result]):
    """`work` takes requests and returns their results in the same order. Use it in one event loop.

    `seconds`: how long a batch waits for further requests before it begins. `max_size`: the requests of one batch, so
    that the first request need not wait for all others.
    """

    def __init__(
        self, work: Callable[[Sequence[Request]], Sequence[Result]], seconds: float = 0.0, max_size: int = 2**31
    ):
        self._work, self._seconds, self._max_size = work, seconds, max_size
        self._waiting: list[tuple[Request, asyncio.Future[Result]]] = []
        self._task: asyncio.Task | None = None

    @property
    def waiting(self) -> int:
        """The number of requests that wait for the next batch."""
        return len(self._waiting)

    async def submit(self, request: Request) -> Result:
        """The result of the request. Raises what `work` raises for its batch."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._seconds)
            batch, self._waiting = self._waiting[: self._max_size], self._waiting[self._max_size :]
            try:
                results = await asyncio.to_thread(self._work, [request for request, _ in batch])
            except Exception as error:
                for _, future in batch:
                    # The caller may have been cancelled meanwhile, and its future with it.
                    if not future.done():
                        future.set_exception(error)
                # A batch that fails must not fail the requests that came after it.
                continue
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
