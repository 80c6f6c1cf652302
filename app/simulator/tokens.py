"""Estimated token counts, and the prompt cache that providers bill less for."""

import hashlib
import math
from collections import OrderedDict

CACHE_FROM = 1024
CACHE_STEP = 128
_BLOCK = 512


def count(text: str) -> int:
    """About 4 characters a token; 1 for each character of 3 bytes in UTF-8, as Hangul and Han are."""
    wide = min(len(text), (len(text.encode("utf-8", "replace")) - len(text)) // 2)
    return wide + math.ceil((len(text) - wide) / 4)


def shorten(text: str, most: int) -> str:
    """The longest beginning of at most `most` tokens."""
    if count(text) <= most:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(text[:middle]) <= most else (low, middle - 1)
    return text[:low]


class PromptCache:
    """Remembers the beginnings of prompts by the digests of their blocks; the least used are forgotten."""

    def __init__(self, most: int = 8192):
        self.most = most
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def visit(self, prompt: str) -> int:
        """Tokens of the longest known beginning (0 below 1024, then in steps of 128); now the whole is known."""
        digest, known, unbroken = hashlib.blake2b(digest_size=12), 0, True
        for end in range(_BLOCK, len(prompt) + 1, _BLOCK):
            digest.update(prompt[end - _BLOCK : end].encode("utf-8", "replace"))
            key = digest.digest()
            unbroken = unbroken and key in self._known
            known = end if unbroken else known
            self._known[key] = None
            self._known.move_to_end(key)
        while len(self._known) > self.most:
            self._known.popitem(last=False)
        cached = count(prompt[:known]) // CACHE_STEP * CACHE_STEP
        return cached if cached >= CACHE_FROM else 0
