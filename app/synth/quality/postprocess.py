"""Post-processing of the new instructions in a reply: they are normalised, and rejected by rules or as copies."""

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
    # A number is copied from the numbered list in the prompt, and a colon announces an input that has its own field.
    number, dot, unnumbered = text.partition(". ")
    return (unnumbered if dot and number.isdigit() else text).rstrip(":：").strip()


def limit_to_requested(
    items: Sequence[Item], faults: Sequence[Rejection], requested_count: int
) -> tuple[Sequence[Item], Sequence[Rejection]]:
    """Limit the items and faults of a reply to the number that its prompt requested; items come first.

    Args:
        items: the valid items.
        faults: the rejections of invalid items.
        requested_count: how many items the prompt asked for.

    Returns:
        Items and faults, together at most `requested_count`. A reply without any gets one fault, `empty_reply`.
    """
    # The number of rows of a batch must not exceed what was planned, even if a teacher writes more than was requested.
    items = items[:requested_count]
    faults = faults[: requested_count - len(items)]
    return items, faults if items or faults else [Rejection("empty_reply")]


def apply_filters(rows: Sequence[Candidate], rules: Sequence[Rule]) -> list[Candidate]:
    """Reject each row whose instruction breaks a rule or repeats an earlier one of the same reply.

    Returns:
        All rows in their order, the rejected ones with their reason.
    """
    earlier_texts: set[str] = set()
    checked_rows = []
    for row in rows:
        # The first fault is the reason, so that a reason stays the same when later checks change.
        rejection = row.rejection or check_instruction(row.instruction, rules)
        text = normalise(row.instruction).casefold()
        if rejection is None and text in earlier_texts:
            rejection = Rejection("repeated_in_reply")
        earlier_texts.add(text)
        checked_rows.append(replace(row, rejection=rejection))
    return checked_rows
