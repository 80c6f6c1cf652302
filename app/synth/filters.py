"""Rules that need nothing but the row itself: named, with parameters, collected in presets per language.

The English preset follows Self-Instruct (section 2.2 and its published filters); what it forbids there by
script ("the first character must be ASCII") is not a rule here: a language is never rejected for its script.
"""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.synth.text import count_words, normalise
from app.synth.types import Rejection
from app.synth.words import contains_word


@dataclass(frozen=True)
class Rule:
    """A rule by its name in RULES, with what it takes beside the text: a number, words, or nothing."""

    name: str
    parameter: int | tuple[str, ...] | None = None

    def fault(self) -> str | None:
        """What is wrong with the parameter, or None."""
        wanted = _PARAMETERS[self.name]
        if wanted is int and not (isinstance(self.parameter, int) and self.parameter >= 1):
            return "takes a number of words, 1 or more"
        if wanted is tuple and not (isinstance(self.parameter, tuple) and all(self.parameter) and self.parameter):
            return "takes a list of words"
        return "takes no parameter" if wanted is None and self.parameter is not None else None


def too_short(text: str, least: int) -> Rejection | None:
    words = count_words(text)
    return Rejection("too_short", words, least) if words < least else None


def too_long(text: str, most: int) -> Rejection | None:
    words = count_words(text)
    return Rejection("too_long", words, most) if words > most else None


def blocked_word(text: str, words: Sequence[str]) -> Rejection | None:
    """Whole words, any case. In Hangul a particle may follow the word, so only its beginning is bounded."""
    found = next((word for word in words if contains_word(text, word)), None)
    return None if found is None else Rejection("blocked_word", found)


def blocked_opening(text: str, openings: Sequence[str]) -> Rejection | None:
    for opening in openings:
        if text.casefold().startswith(opening.casefold()):
            return Rejection("blocked_opening", opening)
    return None


def opens_with_punctuation(text: str, _) -> Rejection | None:
    """The mark of a list, a stray full stop. Quotes may open a sentence, and so may brackets of titles (「, 〈)."""
    first = text[:1]
    category = unicodedata.category(first) if first else ""
    opens = first in "\"'¿¡" or (category in ("Ps", "Pi") and not first.isascii())
    return Rejection("opens_with_punctuation", first) if category.startswith("P") and not opens else None


def ends_with_colon(text: str, _) -> Rejection | None:
    return Rejection("ends_with_colon", text[-20:]) if text.rstrip().endswith((":", "：")) else None


RULES: dict[str, Callable[..., Rejection | None]] = {
    rule.__name__: rule
    for rule in (too_short, too_long, blocked_word, blocked_opening, opens_with_punctuation, ends_with_colon)
}

_PARAMETERS: dict[str, type | None] = {
    "too_short": int,
    "too_long": int,
    "blocked_word": tuple,
    "blocked_opening": tuple,
    "opens_with_punctuation": None,
    "ends_with_colon": None,
}

_NOT_TEXT_ENGLISH = (
    *("image", "images", "graph", "graphs", "picture", "pictures", "file", "files"),
    *("map", "maps", "draw", "plot", "go to"),
)
_NOT_TEXT_ALPACA = (*_NOT_TEXT_ENGLISH, "video", "audio", "music", "flowchart", "diagram")
_NOT_TEXT_KOREAN = ("이미지", "사진", "그래프", "그림을 그", "지도를", "파일을", "동영상", "오디오")

_FORM = (Rule("too_long", 150), Rule("opens_with_punctuation"))
PRESETS: dict[str, tuple[Rule, ...]] = {
    # Self-Instruct's own, less its ASCII rule; and Alpaca's, with five words more.
    "english": (
        Rule("too_short", 4),
        Rule("blocked_word", _NOT_TEXT_ENGLISH),
        Rule("blocked_opening", ("Write a program",)),
        *_FORM,
    ),
    "english-alpaca": (
        Rule("too_short", 4),
        Rule("blocked_word", _NOT_TEXT_ALPACA),
        Rule("blocked_opening", ("Write a program",)),
        *_FORM,
    ),
    "korean": (Rule("too_short", 2), Rule("blocked_word", _NOT_TEXT_KOREAN), *_FORM),
    # For teachers and tuned models that can do what the lists above forbid: form alone.
    "form": (Rule("too_short", 2), *_FORM),
    "form-long": (Rule("too_short", 2), Rule("too_long", 600), Rule("opens_with_punctuation")),
    "none": (),
}
_OF_LANGUAGE = {"en": "english", "ko": "korean"}


def instruction_rules(language: str) -> tuple[Rule, ...]:
    """The preset of a BCP-47 tag, by its primary language; that of form alone where none is written."""
    return PRESETS[_OF_LANGUAGE.get(language.split("-")[0].lower(), "form")]


def check_instruction(text: str, rules: Sequence[Rule]) -> Rejection | None:
    """The first rule that the instruction breaks, or None."""
    if not text.strip():
        return Rejection("empty_instruction")
    return next((found for rule in rules if (found := RULES[rule.name](text, rule.parameter)) is not None), None)


def check_instance(input: str, output: str) -> Rejection | None:
    """Self-Instruct's tests of an instance: an output, not the input again, neither left open by a colon."""
    if not output.strip():
        return Rejection("empty_output")
    if normalise(input) == normalise(output):
        return Rejection("output_equals_input")
    return ends_with_colon(output, None) or ends_with_colon(input, None)
