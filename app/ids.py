"""Identifiers: a prefix and a UUIDv7 (RFC 9562), so that ids sort by the time they were made."""

import os
import time


def new_id(prefix: str) -> str:
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10))
    value = (milliseconds & (2**48 - 1)) << 80 | 7 << 76 | (random >> 68) << 64 | 2 << 62 | random & (2**62 - 1)
    return f"{prefix}_{value:032x}"
