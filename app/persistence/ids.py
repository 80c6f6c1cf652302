"""Identifiers: a prefix and a UUIDv7 (RFC 9562, method 3), so that ids sort by the time they were made."""

import os
import threading
import time

_guard = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """Ids of one process rise strictly, also within a millisecond."""
    global _last
    # Two threads that read the same `_last` would return the same ticks.
    with _guard:
        # 48 bits of milliseconds and 12 bits of their fraction.
        _last = max(_last + 1, time.time_ns() * 4096 // 1_000_000)
        ticks = _last
    random = int.from_bytes(os.urandom(8)) >> 2
    value = (ticks >> 12) << 80 | 7 << 76 | (ticks & 0xFFF) << 64 | 2 << 62 | random
    return f"{prefix}_{value:032x}"
