"""Random numbers that are a function of a key, so that the same request always gets the same reply.

A shared generator would make a reply depend on the requests that came before it.
"""

import hashlib
import random


def draw_integer(*parts: object) -> int:
    """Return 64 bits that depend on every part of the key and on its type."""
    # repr() keeps 1 and "1" apart, and unlike hash() it is the same in every process.
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big")


def draw_uniform(*parts: object) -> float:
    """Return a number in [0, 1)."""
    return draw_integer(*parts) / 2**64


def make_generator(*parts: object) -> random.Random:
    """Return a generator that is seeded by the key."""
    return random.Random(draw_integer(*parts))
