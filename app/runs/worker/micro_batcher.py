"""Micro-batches: requests that come at about the same time are processed together, one micro-batch after another."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Request = TypeVar("Request")
Result = TypeVar("Result")


class MicroBatcher(Generic[Request, Result]):
    """Collects requests and processes them together in one thread. Use it in one event loop.

    Args:
        process: takes requests and returns their results in the same order. It runs in a thread.
        seconds: how long a micro-batch waits for further requests before it begins.
        max_size: the maximum of requests in one micro-batch, so that the first need not wait for all others.
    """

    def __init__(
        self, process: Callable[[Sequence[Request]], Sequence[Result]], seconds: float = 0.0, max_size: int = 2**31
    ):
        self._process, self._seconds, self._max_size = process, seconds, max_size
        self._waiting: list[tuple[Request, asyncio.Future[Result]]] = []
        self._task: asyncio.Task | None = None

    @property
    def waiting(self) -> int:
        """The number of requests that wait for the next micro-batch."""
        return len(self._waiting)

    async def submit(self, request: Request) -> Result:
        """Return the result of the request. Raises what `process` raises for the micro-batch of the request."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._seconds)
            micro_batch, self._waiting = self._waiting[: self._max_size], self._waiting[self._max_size :]
            await self._process_together(micro_batch)

    async def _process_together(self, micro_batch: list[tuple[Request, asyncio.Future[Result]]]) -> None:
        # The caller of a request may have been cancelled meanwhile, and its future with it: such a future is done.
        try:
            results = await asyncio.to_thread(self._process, [request for request, _ in micro_batch])
        except Exception as error:
            # The error is for these requests alone: those that came after them are still processed.
            for _, future in micro_batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(micro_batch, results, strict=True):
            if not future.done():
                future.set_result(result)
