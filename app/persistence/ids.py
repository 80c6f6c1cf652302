"""Ids: a prefix and a UUIDv7 (RFC 9562, section 6.2, method 3), so that ids sort by the time of their creation."""

import os
import threading
import time

_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """Return a new id, such as `run_0199…`. Each id of a process is greater than the one before it.

    Args:
        prefix: The type of the object, for example `run`.
    """
    global _last
    # Two threads that read the same `_last` would return the same ticks.
    with _lock:
        # 48 bits of milliseconds and 12 bits of their fraction.
        _last = max(_last + 1, time.time_ns() * 4096 // 1_000_000)
        ticks = _last
    random = int.from_bytes(os.urandom(8)) >> 2
    value = (ticks >> 12) << 80 | 7 << 76 | (ticks & 0xFFF) << 64 | 2 << 62 | random
    return f"{prefix}_{value:032x}"
