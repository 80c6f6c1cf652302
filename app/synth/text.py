"""Normalising and tokenising, for every script.

`paper` is the tokeniser of rouge_score 0.1.2 without a stemmer: runs of a-z and 0-9, all else is a gap.
`unicode` (the default) keeps words of spaced scripts whole and takes scripts whose words are not
separated by spaces, and Hangul, whose words carry particles, by the syllable or character.
"""

import hashlib
import re
import unicodedata
from typing import Any

import regex

_BY_CHARACTER = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
_UNICODE = regex.compile(
    rf"[{_BY_CHARACTER}]\p{{M}}*|(?:(?![{_BY_CHARACTER}])[\p{{L}}\p{{N}}\p{{M}}])+|\p{{Extended_Pictographic}}"
)
_CHARACTER = regex.compile(rf"[{_BY_CHARACTER}]")
_PAPER = re.compile(r"[a-z0-9]+")
_WORD = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]{1,2}|[\p{L}\p{N}\p{M}'’-]+"
)
_UNSAFE = regex.compile(r"[\x00\ud800-\udfff]")

MODES = ("unicode", "paper")


def normalise(text: str) -> str:
    """NFC, with every run of white space as one space, and none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def clean(text: str) -> str:
    """NFC and trimmed, line breaks kept. NUL and lone surrogates, which no store can hold, are removed."""
    return unicodedata.normalize("NFC", _UNSAFE.sub("", text)).replace("\r\n", "\n").strip()


def storable(value: Any) -> Any:
    """The same JSON value without what no store can hold: NUL and lone surrogates in its texts and keys."""
    if isinstance(value, str):
        return _UNSAFE.sub("", value)
    if isinstance(value, dict):
        return {storable(name): storable(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [storable(part) for part in value]
    return value


def tokenise(text: str, mode: str = "unicode") -> list[str]:
    """The tokens that ROUGE-L compares. Never empty in `unicode` mode unless the text is blank."""
    if mode == "paper":
        return _PAPER.findall(text.lower())
    folded = unicodedata.normalize("NFC", text).casefold()
    return _UNICODE.findall(folded) or [character for character in folded if not character.isspace()]


def locate_tokens(text: str) -> list[tuple[str, int, int]]:
    """(token, start, end): the tokens of `unicode` mode with the characters of `text` on which they stand."""
    return [(match.group().casefold(), *match.span()) for match in _UNICODE.finditer(text)]


def is_character_token(token: str) -> bool:
    """Whether the token is one of a script that is taken by the character or the syllable."""
    return _CHARACTER.match(token) is not None


def count_words(text: str) -> int:
    """Words as a reader counts them; in scripts without spaces two characters count as one word."""
    return len(_WORD.findall(text))


def content_hash(instruction: str, input: str, *more: str) -> bytes:
    """The identity of a row: sha256 over the casefolded, normalised instruction and input (32 bytes).

    `more`: the output and what else tells rows apart that share instruction and input on purpose.
    """
    parts = "\x1f".join(normalise(part).casefold() for part in (instruction, input, *more))
    return hashlib.sha256(parts.encode("utf-8")).digest()
