"""The clock of the rate limiter. Tests inject a clock of their own, so that no test waits."""

import asyncio
import random
import time
from contextlib import suppress


class SystemClock:
    """The time of this machine for waits, and the time of Redis for all that workers share."""

    def seconds(self) -> float:
        """Return seconds of a clock that never goes back."""
        return time.monotonic()

    def shared_ms(self) -> int | None:
        """Return the time that workers share, in ms; None: the script uses the clock of Redis."""
        return None

    def jitter(self) -> float:
        """Return a random factor for a wait, so that workers that wait for the same event don't all come at once."""
        return random.uniform(0.5, 1.5)

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Wait until the event is set, at most `seconds`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), seconds)
