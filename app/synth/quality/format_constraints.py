"""Format constraints that an instruction puts on its answer: length, number of items, form. English and Korean."""

from dataclasses import dataclass
from functools import lru_cache

import regex

# Instructions state small numbers as words and large ones in digits.
_NUMBERS = {
    **{
        word: n
        for n, word in enumerate(["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"], 1)
    },
    **{word: n for n, word in enumerate(["한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉", "열"], 1)},
    **{"a": 1, "single": 1, "하나": 1},
}
_NUMBER = r"(\d{1,4}|" + "|".join(sorted(_NUMBERS, key=len, reverse=True)) + ")"
# These words turn a number into an upper limit.
_AT_MOST = r"(?:at most|no more than|up to|under|fewer than|less than|within|maximum of)"
_WORDS = regex.compile(rf"({_AT_MOST} )?\b{_NUMBER}[- ]words?\b|(\d{{1,4}}) ?단어(?: ?(이내|이하|안))?", regex.I)
_SENTENCES = regex.compile(
    rf"({_AT_MOST} )?\b{_NUMBER}(?: or two)?(?: \w+)? sentences?\b|{_NUMBER} ?문장(?: ?(이내|이하|안))?", regex.I
)
_ITEMS = regex.compile(
    rf"\b(?:list|name|give|suggest|write|propose|provide)(?: me)? (?:exactly )?{_NUMBER} "
    rf"(?!words?\b|sentences?\b|paragraphs?\b)\p{{L}}+|"
    rf"{_NUMBER} ?(?:가지|개)(?:를|만|씩)? ?(?:\p{{Hangul}}+ )?(?:쓰|적|나열|들어|제시|추천|제안|말)",
    regex.I,
)


@dataclass(frozen=True)
class FormatConstraints:
    """The constraints of one instruction; None or False where it states none.

    `at_most`: `words` or `sentences` is an upper limit, not a length to reach.
    """

    words: int | None = None
    sentences: int | None = None
    at_most: bool = False
    items: int | None = None
    json: bool = False
    table: bool = False
    bullets: bool = False
    numbered: bool = False


# Several scores read the same instruction one after another.
@lru_cache(maxsize=4096)
def parse_format_constraints(instruction: str) -> FormatConstraints:
    """Return the constraints that the instruction states in English or Korean."""
    words, sentences = _WORDS.search(instruction), _SENTENCES.search(instruction)
    items = _ITEMS.search(instruction)
    if items and _read_number(items) == 1:
        # "Give a reason" states no more about the form than "give reasons" does.
        items = None
    return FormatConstraints(
        words=_read_number(words),
        sentences=_read_number(sentences),
        at_most=_at_most(words) if words else _at_most(sentences),
        items=_read_number(items),
        json=_matches(r"\b(as|in|into|a|valid) json\b|\bjson (object|array|format)\b|json(으로|로| 형식)", instruction),
        table=_matches(r"\b(as|in|make|create|into) (a )?(markdown )?table\b|표로|표 형식", instruction),
        bullets=_matches(r"\bbullet(ed)?( points?| list)\b|글머리|개조식", instruction),
        numbered=_matches(r"\bnumbered list\b|\bas numbered\b|번호를 (붙|매)|번호 목록", instruction),
    )


def _read_number(match: regex.Match | None) -> int | None:
    if match is None:
        return None
    number = next((group for group in match.groups() if group and (group.isdigit() or group.lower() in _NUMBERS)), None)
    return None if number is None else int(number) if number.isdigit() else _NUMBERS[number.lower()]


def _at_most(match: regex.Match | None) -> bool:
    return match is not None and regex.search(rf"{_AT_MOST}|이내|이하|안$", match.group(), regex.I) is not None


def _matches(pattern: str, text: str) -> bool:
    return regex.search(pattern, text, regex.IGNORECASE) is not None
