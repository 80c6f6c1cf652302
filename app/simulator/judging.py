"""Judgements that depend on the texts alone: the same answer earns the same score in either place."""

import re

from app.simulator import chance
from app.simulator.reading import Reading

_ANSWER_TAGS = ("output", "response", "answer", "completion", "reply")
_WORD = re.compile(r"\w+")
_REFUSES = re.compile(r"^(I'm sorry|I am sorry|I can't|I cannot|As an AI|죄송)", re.IGNORECASE)
# How often each quality is found: most answers are decent.
_QUALITIES = (2, 3, 3, 4, 4, 4, 4, 5, 5, 5)


def score(reading: Reading, aspect: str, low: int, high: int) -> int:
    """The judged answer's quality, one up or down by aspect, stretched over low..high."""
    text = reading.section(*_ANSWER_TAGS) or reading.user
    grade = quality(text) + (-1, 0, 0, 0, 1)[chance.number("aspect", aspect, text) % 5]
    return round(low + (high - low) * (min(5, max(1, grade)) - 1) / 4)


def quality(text: str) -> int:
    """1 to 5. Nothing and refusals are 1."""
    if not text.strip() or _REFUSES.match(text.strip()):
        return 1
    return _QUALITIES[chance.number("quality", text.strip()) % len(_QUALITIES)]


def equal(reading: Reading) -> bool:
    """Whether the last two sections say the same: nearly all of their words are shared."""
    texts = [content for _, content in reading.sections[-2:]]
    one, two = ({word.lower() for word in _WORD.findall(text)} for text in [*texts, "", ""][:2])
    return bool(one) and len(one & two) / len(one | two) >= 0.8


def better(reading: Reading, choices: list) -> object:
    """The choice whose text is of higher quality, wherever it stands; the longer one among equals."""
    ranked = []
    for place, choice in enumerate(choices):
        name = str(choice).lower()
        ordinal = ("first", "second", "third")[place : place + 1]
        endings = f"_{name}", f"-{name}"
        tagged = (t for tag, t in reading.sections if tag == name or tag.endswith(endings) or tag in ordinal)
        text = next(tagged, None)
        if text is not None:
            ranked.append((quality(text), len(text), text, place))
    if not ranked:
        return choices[chance.number("better", reading.user) % len(choices)]
    return choices[max(ranked)[3]]
