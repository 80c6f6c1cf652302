"""Estimated token counts, and a cache of prompt prefixes, for which providers bill less."""

import hashlib
import math
from collections import OrderedDict

# OpenAI caches prefixes from 1,024 tokens on, in steps of 128 tokens.
CACHE_MIN_TOKENS = 1024
CACHE_STEP_TOKENS = 128
_BLOCK_CHARACTERS = 512


def estimate_tokens(text: str) -> int:
    """Return about one token for 4 characters, and one for each character of 3 bytes in UTF-8 (Hangul, Han)."""
    wide = min(len(text), (len(text.encode("utf-8", "replace")) - len(text)) // 2)
    return wide + math.ceil((len(text) - wide) / 4)


def truncate(text: str, max_tokens: int) -> str:
    """Return the longest beginning of the text that has at most `max_tokens` tokens."""
    if estimate_tokens(text) <= max_tokens:
        return text
    # The estimate grows with the length, so a binary search finds the longest prefix.
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if estimate_tokens(text[:middle]) <= max_tokens else (low, middle - 1)
    return text[:low]


class PromptCache:
    """A least-recently-used set of prompt prefixes. It stores one digest for each block, never the text."""

    def __init__(self, max_blocks: int = 8192):
        self.max_blocks = max_blocks
        self._digests: OrderedDict[bytes, None] = OrderedDict()

    def lookup_and_store(self, prompt: str) -> int:
        """Return the tokens of the longest cached prefix, and cache the whole prompt.

        The number is 0 below 1,024 and a multiple of 128 above, as in the bills of the OpenAI API.
        """
        digest, known_length, is_known = hashlib.blake2b(digest_size=12), 0, True
        for end in range(_BLOCK_CHARACTERS, len(prompt) + 1, _BLOCK_CHARACTERS):
            # The digest runs on from block to block, so each one stands for the whole prefix.
            digest.update(prompt[end - _BLOCK_CHARACTERS : end].encode("utf-8", "replace"))
            key = digest.digest()
            is_known = is_known and key in self._digests
            known_length = end if is_known else known_length
            self._digests[key] = None
            self._digests.move_to_end(key)
        while len(self._digests) > self.max_blocks:
            self._digests.popitem(last=False)
        cached = estimate_tokens(prompt[:known_length]) // CACHE_STEP_TOKENS * CACHE_STEP_TOKENS
        return cached if cached >= CACHE_MIN_TOKENS else 0
