"""Presets of rules by language, and the check of a row by rules.

The English preset follows Self-Instruct (Wang et al. 2023, section 2.2, and its published code) without the rule that
the first character must be ASCII: a language is never rejected for its script.
"""

from collections.abc import Sequence
from typing import Annotated, Protocol, get_args

from pydantic import AfterValidator, Discriminator, Field, Tag

from app.synth.quality.rules import (
    RULES,
    BlockedOpening,
    BlockedWord,
    EndsWithColon,
    OpensWithPunctuation,
    RowField,
    Rule,
    TooLong,
    TooShort,
    rule_type,
)
from app.synth.text import normalise
from app.synth.types import Rejection

# Every row is checked by every rule, so the number bounds the time that a caller's rules can take.
MAX_RULES = 50
_NOT_TEXT_ENGLISH = (
    *("image", "images", "graph", "graphs", "picture", "pictures", "file", "files"),
    *("map", "maps", "draw", "plot", "go to"),
)
_NOT_TEXT_ALPACA = (*_NOT_TEXT_ENGLISH, "video", "audio", "music", "flowchart", "diagram")
_NOT_TEXT_KOREAN = ("이미지", "사진", "그래프", "그림을 그", "지도를", "파일을", "동영상", "오디오")

_FORM = (TooLong(parameter=150), OpensWithPunctuation())
_OPENINGS = BlockedOpening(parameter=("Write a program",))
PRESETS: dict[str, tuple[Rule, ...]] = {
    # Self-Instruct's rules without the ASCII rule, and Alpaca's, which add five words.
    "english": (TooShort(parameter=4), BlockedWord(parameter=_NOT_TEXT_ENGLISH), _OPENINGS, *_FORM),
    "english-alpaca": (TooShort(parameter=4), BlockedWord(parameter=_NOT_TEXT_ALPACA), _OPENINGS, *_FORM),
    "korean": (TooShort(parameter=2), BlockedWord(parameter=_NOT_TEXT_KOREAN), *_FORM),
    # Form alone, for teachers and tuned models that can do what the word lists forbid.
    "form": (TooShort(parameter=2), *_FORM),
    "form-long": (TooShort(parameter=2), TooLong(parameter=600), OpensWithPunctuation()),
    "none": (),
}
_OF_LANGUAGE = {"en": "english", "ko": "korean"}
_COLON = EndsWithColon()


def _check_preset(name: str) -> str:
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    return name


RuleSet = Annotated[
    Annotated[str, AfterValidator(_check_preset), Tag("preset")]
    | Annotated[tuple[rule_type(RULES), ...], Field(max_length=MAX_RULES, strict=False), Tag("list")],
    Discriminator(lambda value: "preset" if isinstance(value, str) else "list"),
]
"""A preset by its name, or a list of rules."""


class Row(Protocol):
    """The fields of a row that rules check."""

    instruction: str
    input: str
    output: str


def instruction_rules(language: str) -> tuple[Rule, ...]:
    """Return the preset for the primary language of a BCP-47 tag; `form` for a language without a preset."""
    return PRESETS[_OF_LANGUAGE.get(language.split("-")[0].lower(), "form")]


def rules_of(rules: str | tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Return the rules of a preset by its name, or the given list."""
    return PRESETS[rules] if isinstance(rules, str) else rules


def check_instruction(text: str, rules: Sequence[Rule]) -> Rejection | None:
    """Return the first rule on instructions that the text breaks, or None."""
    if not text.strip():
        return Rejection("empty_instruction")
    return _first_broken((rule, text) for rule in rules if rule.on == "instruction")


def check_row(row: Row, rules: Sequence[Rule], fields: Sequence[RowField] = get_args(RowField)) -> Rejection | None:
    """Return the first rule that one of these fields of the row breaks, or None."""
    return _first_broken((rule, getattr(row, rule.on)) for rule in rules if rule.on in fields)


def _first_broken(checks) -> Rejection | None:
    return next((fault for rule, text in checks if (fault := rule.check(text)) is not None), None)


def check_instance(input: str, output: str) -> Rejection | None:
    """Check an instance by the rules of Self-Instruct's published code: an output that is not the input, and no colon.

    Args:
        input: the input, empty without one.
        output: the output; neither text may end with a colon.
    """
    if not output.strip():
        return Rejection("empty_output")
    if normalise(input) == normalise(output):
        return Rejection("output_equals_input")
    return _COLON.check(output) or _COLON.check(input)
