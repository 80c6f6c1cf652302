"""Rules of form: each is a class with its parameters and its check, registered under its name.

A rule reads one text and nothing else. A caller can add rules in the options of a run: a regular expression, a list of
words, or a length, each for the instruction, the input or the output of a row.
"""

import hashlib
import json
import math
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache, reduce
from operator import or_
from typing import Annotated, Any, Literal, TypeVar

import regex
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from app.synth.text import count_words
from app.synth.types import Rejection
from app.synth.word_lists import contains_word

RowField = Literal["instruction", "input", "output"]
Name = Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$", max_length=40)]
Must = Literal["match", "not_match"]
Fault = tuple[int | float | str, int | float | str | None]

MAX_PATTERN_LENGTH, MAX_REPETITIONS = 500, 100_000
# A pattern of a caller may backtrack for hours on one text.
PATTERN_SECONDS = 0.2
RULE_TIMEOUT = "rule_timeout"
_LABELLED = "rule:"
_REPETITION = regex.compile(r"\{(\d*)(?:,(\d*))?\}")
_RECURSION = regex.compile(r"\(\?(?:R|[+-]?\d|&|P>)")


class Rule(BaseModel):
    """The base of all rules: the field that a rule reads, and the label of the caller for the rejection."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    on: RowField = Field(default="instruction", description="The field that is checked; an empty one, too.")
    label: Name | None = Field(default=None, description="Rows that break the rule are rejected as `rule:LABEL`.")

    @property
    def reason(self) -> str:
        """The reason of a rejection: the rule's name, or the label of the caller."""
        if self.label is not None:
            return _LABELLED + self.label
        return self.name if self.on == "instruction" else f"{self.name}:{self.on}"

    def find_fault(self, text: str) -> Fault | None:
        """Return the value that breaks the rule and the rule's threshold, or None."""
        raise NotImplementedError

    def check(self, text: str) -> Rejection | None:
        """Return the rejection of a text that breaks the rule, or None."""
        fault = self.find_fault(text)
        return None if fault is None else Rejection(self.reason, *fault)


RULES: dict[str, type[Rule]] = {}
RuleClass = TypeVar("RuleClass", bound=type[Rule])


def rule(cls: RuleClass) -> RuleClass:
    """Register a rule under the one value that its `name` may take."""
    RULES[cls.model_fields["name"].default] = cls
    return cls


@rule
class TooShort(Rule):
    """Fewer words than the parameter."""

    name: Literal["too_short"] = "too_short"
    parameter: int = Field(ge=1, description="Words.")

    def find_fault(self, text: str) -> Fault | None:
        """Return the number of words when it is below the parameter."""
        count = count_words(text)
        return (count, self.parameter) if count < self.parameter else None


@rule
class TooLong(Rule):
    """More words than the parameter."""

    name: Literal["too_long"] = "too_long"
    parameter: int = Field(ge=1, description="Words.")

    def find_fault(self, text: str) -> Fault | None:
        """Return the number of words when it is above the parameter."""
        count = count_words(text)
        return (count, self.parameter) if count > self.parameter else None


WordList = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=100)], ...], Field(min_length=1, max_length=1000)
]


def first_word(text: str, words: Iterable[str]) -> str | None:
    """Return the first of the words that the text contains as a whole word, in any case; None without one.

    In Hangul a particle may follow the word, so only its beginning must be a word boundary.
    """
    return next((word for word in words if contains_word(text, word)), None)


@rule
class BlockedWord(Rule):
    """One of the words stands in the text."""

    name: Literal["blocked_word"] = "blocked_word"
    parameter: WordList

    def find_fault(self, text: str) -> Fault | None:
        """Return the first of the words that stands in the text."""
        word = first_word(text, self.parameter)
        return None if word is None else (word, None)


@rule
class BlockedOpening(Rule):
    """The text begins with one of these, in any case."""

    name: Literal["blocked_opening"] = "blocked_opening"
    parameter: WordList

    def find_fault(self, text: str) -> Fault | None:
        """Return the opening with which the text begins."""
        opening = next((start for start in self.parameter if text.casefold().startswith(start.casefold())), None)
        return None if opening is None else (opening, None)


@rule
class OpensWithPunctuation(Rule):
    """The text begins with punctuation, such as a list mark. Quotes and brackets of titles (「, 〈) are allowed."""

    name: Literal["opens_with_punctuation"] = "opens_with_punctuation"
    parameter: None = None

    def find_fault(self, text: str) -> Fault | None:
        """Return the first character when it is punctuation that opens no sentence."""
        first = text[:1]
        category = unicodedata.category(first) if first else ""
        opens = first in "\"'¿¡" or (category in ("Ps", "Pi") and not first.isascii())
        return (first, None) if category.startswith("P") and not opens else None


@rule
class EndsWithColon(Rule):
    """The text ends with a colon, after which something is missing."""

    name: Literal["ends_with_colon"] = "ends_with_colon"
    parameter: None = None

    def find_fault(self, text: str) -> Fault | None:
        """Return the last 20 characters when a colon ends the text."""
        return (text[-20:], None) if text.rstrip().endswith((":", "：")) else None


@lru_cache(maxsize=512)
def compile_pattern(pattern: str) -> regex.Pattern:
    """Compile a regular expression of a caller.

    Raises:
        ValueError: the pattern is invalid, calls itself, or has repetitions whose product exceeds MAX_REPETITIONS.
    """
    # Both forms can exhaust the memory in compilation, before any time limit of a search applies.
    if _RECURSION.search(pattern):
        raise ValueError("a pattern may not call itself or a group of its own")
    counts = [int(number) for pair in _REPETITION.findall(pattern) for number in pair if number.isdigit()]
    if math.prod(max(1, count) for count in counts) > MAX_REPETITIONS:
        raise ValueError(f"its repetitions multiply to more than {MAX_REPETITIONS}")
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"not a regular expression: {error}") from error


def _check_pattern(pattern: str) -> str:
    compile_pattern(pattern)
    return pattern


@rule
class Pattern(Rule):
    """A regular expression (of Python's `regex` package) that has to occur in the text, or must not.

    A search is given up after PATTERN_SECONDS; the row is then rejected as `rule_timeout`, since its form is unknown.
    """

    name: Literal["pattern"] = "pattern"
    pattern: Annotated[str, Field(min_length=1, max_length=MAX_PATTERN_LENGTH), AfterValidator(_check_pattern)]
    must: Must = Field(default="not_match", description="match: it has to occur. not_match: it must not.")

    def check(self, text: str) -> Rejection | None:
        """Return the rejection with the first match, 200 characters at most, or None."""
        try:
            match = compile_pattern(self.pattern).search(text, timeout=PATTERN_SECONDS)
        except TimeoutError:
            return Rejection(RULE_TIMEOUT, self.reason, PATTERN_SECONDS)
        if (match is None) == (self.must == "not_match"):
            return None
        return Rejection(self.reason, match.group()[:200] if match else "no match", self.pattern)


@rule
class Words(Rule):
    """The text has to contain one of the words, or may contain none of them."""

    name: Literal["words"] = "words"
    words: WordList
    must: Must = Field(default="not_match", description="match: one of them has to occur. not_match: none may.")

    def find_fault(self, text: str) -> Fault | None:
        """Return the word that may not stand in the text, or a note that no required word does."""
        word = first_word(text, self.words)
        if self.must == "match":
            return ("none of the words", None) if word is None else None
        return None if word is None else (word, None)


@rule
class Length(Rule):
    """The length of the text lies between two bounds, in words or in characters."""

    name: Literal["length"] = "length"
    min: int | None = Field(default=None, ge=0)
    max: int | None = Field(default=None, ge=0)
    unit: Literal["words", "characters"] = "words"

    @model_validator(mode="after")
    def has_bounds(self) -> "Length":
        """Check that there is a bound, and that the bounds are in order."""
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min ({self.min}) is over max ({self.max})")
        return self

    def find_fault(self, text: str) -> Fault | None:
        """Return the length with the bound that it breaks."""
        size = count_words(text) if self.unit == "words" else len(text)
        if self.min is not None and size < self.min:
            return size, self.min
        return (size, self.max) if self.max is not None and size > self.max else None


def rule_type(rules: Mapping[str, type[Rule]]) -> Any:
    """Return the union type of the rules, discriminated by `name`, for a field of options or of a request body."""
    return Annotated[reduce(or_, rules.values()), Field(discriminator="name")]


def is_rule_reason(reason: str) -> bool:
    """Return whether rows are rejected for this reason by a rule."""
    return reason == RULE_TIMEOUT or reason.startswith(_LABELLED) or reason.partition(":")[0] in RULES


def digest_of(value: Any) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of a JSON value; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]
