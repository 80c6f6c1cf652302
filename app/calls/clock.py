"""Time, as the rate limiter sees it: tests bring a clock of their own, and wait for nothing."""

import asyncio
import random
import time
from contextlib import suppress


class SystemClock:
    """The time of this machine for waits, and the time of Redis for all that workers share."""

    def seconds(self) -> float:
        return time.monotonic()

    def shared_ms(self) -> int | None:
        """The time that workers share, in ms; None: Redis looks at its own clock."""
        return None

    def jitter(self) -> float:
        """A factor by which a wait is lengthened or shortened, so that workers don't all come at once."""
        return random.uniform(0.5, 1.5)

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Until the event is set, or for so long."""
        with suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), seconds)
