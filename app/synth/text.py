"""Normalisation and tokenisation of text in every script.

`paper` is the tokeniser of rouge_score 0.1.2 without a stemmer: runs of a-z and 0-9, everything else separates.
`unicode` (the default) keeps the words of spaced scripts whole. It splits scripts without spaces, and Hangul, whose
words carry particles, into characters or syllables.
"""

import hashlib
import re
import unicodedata
from typing import Any

import regex

# Scripts without spaces between words, and Hangul, where a particle would make two forms of one word differ.
_BY_CHARACTER = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
_UNICODE = regex.compile(
    rf"[{_BY_CHARACTER}]\p{{M}}*|(?:(?![{_BY_CHARACTER}])[\p{{L}}\p{{N}}\p{{M}}])+|\p{{Extended_Pictographic}}"
)
_CHARACTER = regex.compile(rf"[{_BY_CHARACTER}]")
_PAPER = re.compile(r"[a-z0-9]+")
# Two characters of a script without spaces make about one word.
_WORD = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]{1,2}|[\p{L}\p{N}\p{M}'’-]+"
)
# PostgreSQL text holds no NUL, and UTF-8 no lone surrogate.
_UNSAFE = regex.compile(r"[\x00\ud800-\udfff]")

MODES = ("unicode", "paper")


def normalise(text: str) -> str:
    """Return the text in NFC, with every run of white space as one space and none at the ends."""
    # NFC first: composed and decomposed Hangul look alike and must compare as equal.
    return " ".join(unicodedata.normalize("NFC", text).split())


def clean(text: str) -> str:
    """Return the text in NFC, trimmed, with its line breaks. NUL and lone surrogates are removed."""
    return unicodedata.normalize("NFC", _UNSAFE.sub("", text)).replace("\r\n", "\n").strip()


# Recursive, since replies and uploads are JSON of any depth and one bad character would lose the whole row.
def storable(value: Any) -> Any:
    """Return the JSON value without NUL and lone surrogates in its texts and keys, which PostgreSQL cannot store."""
    if isinstance(value, str):
        return _UNSAFE.sub("", value)
    if isinstance(value, dict):
        return {storable(name): storable(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [storable(part) for part in value]
    return value


def tokenise(text: str, mode: str = "unicode") -> list[str]:
    """Return the tokens that ROUGE-L compares (see the module). In `unicode` mode only a blank text has none.

    Args:
        text: the text.
        mode: `unicode`, or `paper` for the tokens of rouge_score.
    """
    if mode == "paper":
        return _PAPER.findall(text.lower())
    folded = unicodedata.normalize("NFC", text).casefold()
    # A text of punctuation alone is compared by its characters: without tokens it would resemble nothing.
    return _UNICODE.findall(folded) or [character for character in folded if not character.isspace()]


def locate_tokens(text: str) -> list[tuple[str, int, int]]:
    """Return (token, start, end) of each token of `unicode` mode, as offsets in characters of `text`."""
    return [(match.group().casefold(), *match.span()) for match in _UNICODE.finditer(text)]


def is_character_token(token: str) -> bool:
    """Return whether the token belongs to a script that is split into characters or syllables."""
    return _CHARACTER.match(token) is not None


def count_words(text: str) -> int:
    """Return the number of words; in scripts without spaces two characters count as one word."""
    return len(_WORD.findall(text))


def content_hash(instruction: str, input: str, *more: str) -> bytes:
    """Return the identity of a row: sha256 (32 bytes) over its casefolded, normalised fields.

    Args:
        instruction: the instruction of the row.
        input: its input, empty without one.
        *more: further fields, for rows that share instruction and input on purpose.
    """
    # The separator keeps ("a b", "") and ("a", "b") apart.
    parts = "\x1f".join(normalise(part).casefold() for part in (instruction, input, *more))
    return hashlib.sha256(parts.encode("utf-8")).digest()
