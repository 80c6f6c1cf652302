"""Everything random is a function of what it is drawn for."""

import hashlib
import random


def number(*parts: object) -> int:
    """64 bits that depend on every part and its type."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big")


def share(*parts: object) -> float:
    """In [0, 1)."""
    return number(*parts) / 2**64


def generator(*parts: object) -> random.Random:
    return random.Random(number(*parts))
