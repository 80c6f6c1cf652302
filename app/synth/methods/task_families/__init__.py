"""Task families: phrasings in English and Korean that turn labelled data into instruction rows.

As in FLAN (Wei et al. 2022, section 2.1) and PromptSource (Bach et al. 2022) a phrasing is a template over the fields
of a labelled row, and inverse phrasings ask for the text of a given label. Each family is a TOML file in this folder.
Fields are substituted, never evaluated.
"""

import random
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

# The same double braces as in prompts: labelled texts may hold single ones.
_FIELD = re.compile(r"\{\{(\w+)\}\}")
# Every family has phrasings in all of these, which a test checks.
LANGUAGES = ("en", "ko")
FAMILIES: tuple[str, ...] = tuple(
    sorted(
        path.name.removesuffix(".toml") for path in resources.files(__name__).iterdir() if path.name.endswith(".toml")
    )
)
# Characters of a field, which bounds the size of a row.
MAX_VALUE_LENGTH = 400_000
# The labels around the solved examples of a few-shot prompt.
_EXAMPLES = {
    "en": ("Examples:", "Input: ", "Output: ", "Now this one:"),
    "ko": ("예시:", "입력: ", "출력: ", "이제 다음을 해 보세요:"),
}


@dataclass(frozen=True)
class Phrasing:
    """One template of a task. `inverse`: the label is the input, and the text is the output."""

    name: str
    task: str
    language: str
    instruction: str
    input: str
    output: str
    inverse: bool = False

    @property
    def fields(self) -> set[str]:
        """The names of all fields that the template uses."""
        return {name for part in (self.instruction, self.input, self.output) for name in _FIELD.findall(part)}


@dataclass(frozen=True)
class Family:
    """A task. `fields`: a description of each field of a labelled row. `labels`: by language, the name of each code."""

    name: str
    summary: str
    fields: dict[str, str]
    classification: bool
    labels: dict[str, dict[str, str]]
    phrasings: dict[str, tuple[Phrasing, ...]]
    samples: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Rendered:
    """A phrasing with its fields filled in."""

    instruction: str
    input: str
    output: str


@cache
def load_family(task: str) -> Family:
    """Load the family of a task.

    Raises:
        KeyError: the task is unknown.
    """
    if task not in FAMILIES:
        raise KeyError(f"no task {task!r}; there are {', '.join(FAMILIES)}")
    raw = tomllib.loads((resources.files(__name__) / f"{task}.toml").read_text("utf-8"))
    return Family(
        name=task,
        summary=raw["summary"],
        fields=raw["fields"],
        classification=raw.get("classification", False),
        labels=raw.get("labels", {}),
        phrasings={language: _phrasings(task, language, raw[language]) for language in LANGUAGES},
        samples={language: raw["sample"][language] for language in LANGUAGES},
    )


def _phrasings(task: str, language: str, raw: list[list[str]]) -> tuple[Phrasing, ...]:
    """Build phrasings from lists of [instruction, input, output]; an inverse phrasing has "inverse" as fourth entry."""
    return tuple(
        Phrasing(f"{task}/{language}/{number}", task, language, *parts[:3], inverse="inverse" in parts[3:])
        for number, parts in enumerate(raw, 1)
    )


def check_fields(task: str, row: dict[str, Any]) -> None:
    """Check the fields of a labelled row.

    Args:
        task: the name of the family.
        row: the values by field.

    Raises:
        ValueError: the row lacks a field of the task, has another one, or one that is blank or too long.
    """
    expected = load_family(task).fields
    missing = [name for name in expected if name not in row]
    if missing:
        raise ValueError(f"{task} rows need the fields {', '.join(expected)}; {missing[0]} is missing")
    unknown = [name for name in row if name not in expected]
    if unknown:
        raise ValueError(f"{task} rows have the fields {', '.join(expected)}; {unknown[0]!r} is none of them")
    for name, value in row.items():
        text = _value_to_text(value, name)
        if not text.strip():
            raise ValueError(f"{name} is empty")
        if len(text) > MAX_VALUE_LENGTH:
            raise ValueError(f"{name} has more than {MAX_VALUE_LENGTH} characters")


def choose_phrasing(task: str, language: str, rng: random.Random, inverse_share: float = 0.1) -> Phrasing:
    """Draw a phrasing.

    Args:
        task: the name of the family.
        language: a BCP-47 tag; a language without phrasings gets the English ones.
        rng: the source of randomness.
        inverse_share: the probability of an inverse phrasing, where the family has one.
    """
    primary = language.split("-")[0].lower()
    phrasings = load_family(task).phrasings.get(primary) or load_family(task).phrasings["en"]
    inverse = rng.random() < inverse_share
    return rng.choice([phrasing for phrasing in phrasings if phrasing.inverse == inverse] or list(phrasings))


def render(phrasing: Phrasing, row: dict[str, Any]) -> Rendered:
    """Fill in a phrasing with the values of a row. Braces in a value stay as they are.

    Raises:
        ValueError: the row lacks a field, or a value is neither text, number nor list.
    """
    # Labelled data often has codes such as 0 and 1, which say nothing to a reader.
    labels = load_family(phrasing.task).labels.get(phrasing.language, {})
    values = {name: _value_to_text(value, name) for name, value in row.items()}
    if "label" in values:
        values["label"] = labels.get(values["label"].strip().casefold(), values["label"])
    missing = phrasing.fields - set(values)
    if missing:
        raise ValueError(f"{phrasing.name} needs the field {sorted(missing)[0]}")
    parts = (phrasing.instruction, phrasing.input, phrasing.output)
    # A single pass over the template: text that was filled in is not searched for fields again.
    return Rendered(*(_FIELD.sub(lambda match: values[match.group(1)], part) for part in parts))


def add_demonstrations(rendered: Rendered, demonstrations: Sequence[Rendered], language: str) -> Rendered:
    """Put solved examples before the input (few-shot). The instruction and the output do not change.

    Args:
        rendered: the row.
        demonstrations: other rows of the same phrasing, with their outputs.
        language: a BCP-47 tag, for the labels around the examples.
    """
    opening, input_label, output_label, transition = _EXAMPLES.get(language.split("-")[0].lower(), _EXAMPLES["en"])
    examples = "\n\n".join(
        f"{input_label}{demonstration.input or demonstration.instruction}\n{output_label}{demonstration.output}"
        for demonstration in demonstrations
    )
    question = rendered.input or rendered.instruction
    return Rendered(
        rendered.instruction, f"{opening}\n\n{examples}\n\n{transition}\n\n{input_label}{question}", rendered.output
    )


def _value_to_text(value: Any, name: str) -> str:
    """Return a value as text: a list with commas, {text, label} as `text (label)`.

    Raises:
        ValueError: the value is of another type.
    """
    # A bool is an int as well, and Python would write it with a capital letter.
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list) and value:
        return ", ".join(_item_to_text(item, name) for item in value)
    raise ValueError(f"{name} must be a text, a number, or a list of texts or of {{text, label}}")


def _item_to_text(value: Any, name: str) -> str:
    if isinstance(value, dict) and set(value) == {"text", "label"} and all(isinstance(v, str) for v in value.values()):
        return f"{value['text']} ({value['label']})"
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError(f"{name} has an entry that is neither a text nor {{text, label}}")
