"""Judgements that depend on the texts alone, so that an answer gets the same score wherever it stands in a prompt."""

import re

from app.simulator import seeded_random
from app.simulator.prompt_parser import PromptParser

_ANSWER_TAGS = ("output", "response", "answer", "completion", "reply")
_NUMBERED_TAG = re.compile(r"(?:answer|row)_(\d+)")
_WORD = re.compile(r"\w+")
_REFUSES = re.compile(r"^(I'm sorry|I am sorry|I can't|I cannot|As an AI|죄송)", re.IGNORECASE)
# The distribution of quality scores: most answers of a real teacher are decent.
_QUALITIES = (2, 3, 3, 4, 4, 4, 4, 5, 5, 5)


def score_answer(prompt: PromptParser, aspect: str, low: int, high: int) -> int:
    """Return a score from `low` to `high`: the answer's quality, shifted by up to 1 for the aspect."""
    return score_text(prompt.last_section(*_ANSWER_TAGS) or prompt.user_message, aspect, low, high)


def numbered_answers(prompt: PromptParser) -> list[tuple[int, str]]:
    """Return the answers that the prompt shows in numbered sections (`<answer_1>`, `<row_1>`), with their numbers.

    A row with a section for its answer counts with that section alone.
    """
    answers = []
    for tag, content in prompt.sections:
        match = _NUMBERED_TAG.fullmatch(tag)
        if match:
            inner = PromptParser(content, "").last_section(*_ANSWER_TAGS)
            answers.append((int(match.group(1)), content if inner is None else inner))
    return answers


def score_text(text: str, aspect: str, low: int, high: int) -> int:
    """Return a score of an answer from `low` to `high`, as `score_answer` does."""
    # The shift depends on aspect and text alone, so that a repeated judgement agrees with itself.
    grade = answer_quality(text) + (-1, 0, 0, 0, 1)[seeded_random.draw_integer("aspect", aspect, text) % 5]
    return round(low + (high - low) * (min(5, max(1, grade)) - 1) / 4)


def answer_quality(text: str) -> int:
    """Return a quality from 1 to 5. An empty answer and a refusal get 1."""
    if not text.strip() or _REFUSES.match(text.strip()):
        return 1
    return _QUALITIES[seeded_random.draw_integer("quality", text.strip()) % len(_QUALITIES)]


def are_equal(prompt: PromptParser) -> bool:
    """Return whether the last two sections share nearly all of their words (Jaccard index of at least 0.8)."""
    texts = [content for _, content in prompt.sections[-2:]]
    first_words, second_words = ({word.lower() for word in _WORD.findall(text)} for text in [*texts, "", ""][:2])
    return bool(first_words) and len(first_words & second_words) / len(first_words | second_words) >= 0.8


def choose_better(prompt: PromptParser, choices: list) -> object:
    """Return the choice whose text has the higher quality; of two equal ones, the longer text.

    The order of the texts in the prompt has no effect, since a judge without position bias is easier to test against.
    """
    ranked = []
    for index, choice in enumerate(choices):
        name = str(choice).lower()
        ordinal = ("first", "second", "third")[index : index + 1]
        endings = f"_{name}", f"-{name}"
        tagged = (content for tag, content in prompt.sections if tag == name or tag.endswith(endings) or tag in ordinal)
        text = next(tagged, None)
        if text is not None:
            ranked.append((answer_quality(text), len(text), text, index))
    if not ranked:
        return choices[seeded_random.draw_integer("better", prompt.user_message) % len(choices)]
    return choices[max(ranked)[3]]
