"""Post-processing of the instructions in a reply: normalised, filtered by the rules, copies rejected."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from app.synth.quality.filters import check_instruction
from app.synth.quality.rules import Rule
from app.synth.text import clean, normalise
from app.synth.types import Candidate, Rejection

Item = TypeVar("Item")


def normalise_instruction(text: str) -> str:
    """Collapse white space, and remove a list number in front and a colon at the end."""
    text = normalise(clean(text))
    number, dot, rest = text.partition(". ")
    return (rest if dot and number.isdigit() else text).rstrip(":：").strip()


def at_most_asked(
    items: Sequence[Item], faults: Sequence[Rejection], asked: int
) -> tuple[Sequence[Item], Sequence[Rejection]]:
    """Of a reply's items and faults as many as were asked for, the items first. A reply without both is empty."""
    items = items[:asked]
    faults = faults[: asked - len(items)]
    return items, faults if items or faults else [Rejection("empty_reply")]


def apply_filters(rows: Sequence[Candidate], rules: Sequence[Rule]) -> list[Candidate]:
    """Reject each row whose instruction breaks a rule or repeats an earlier one of the same reply.

    Returns:
        All rows in their order, the rejected ones with their reason.
    """
    seen: set[str] = set()
    checked_rows = []
    for row in rows:
        # The first fault decides, so that a reason stays the same when later checks change.
        rejection = row.rejection or check_instruction(row.instruction, rules)
        text = normalise(row.instruction).casefold()
        if rejection is None and text in seen:
            rejection = Rejection("repeated_in_reply")
        seen.add(text)
        checked_rows.append(replace(row, rejection=rejection))
    return checked_rows
