"""The calls of a time slice that wait for an answer, so that all of them can be ended at once."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from app.synth.types import CallsEnded


class OpenCalls:
    """Calls that can be ended without ending the batches that make them.

    A batch that is cancelled loses the rows that it has finished. A call that is ended here raises `CallsEnded` in its
    chain alone, so that the batch offers the rows of its other chains. Use it in one event loop.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task] = set()
        self.have_ended = False

    @contextmanager
    def track(self) -> Iterator[None]:
        """Count the call of the current task as open.

        Raises:
            CallsEnded: The calls were ended, before this call or during it.
            CancelledError: The batch that makes the call was cancelled.
        """
        # A chain whose call has just been answered makes its next call after the end: it must not begin.
        if self.have_ended:
            raise CallsEnded("the slice ends its calls")
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            yield
        except asyncio.CancelledError:
            # Whoever cancels the whole batch cancels it a second time, and that cancel goes through.
            if not self.have_ended or task.uncancel() > 0:
                raise
            raise CallsEnded("the slice ended the call") from None
        finally:
            self._tasks.discard(task)

    def end_all(self) -> None:
        """End the open calls, and refuse new ones."""
        self.have_ended = True
        for task in self._tasks:
            task.cancel()
