"""Instructions as a teacher wrote them: tidied, checked by the rules, copies within the reply turned away."""

from collections.abc import Sequence
from dataclasses import replace

from app.synth.filters import check_instruction
from app.synth.rules import Rule
from app.synth.text import clean, normalise
from app.synth.types import Candidate, Rejection


def normalise_instruction(text: str) -> str:
    """White space collapsed, a list number in front and a colon at the end cut off."""
    text = normalise(clean(text))
    number, dot, rest = text.partition(". ")
    return (rest if dot and number.isdigit() else text).rstrip(":：").strip()


def apply_filters(rows: Sequence[Candidate], rules: Sequence[Rule]) -> list[Candidate]:
    """Each row with the first rule that its instruction breaks, or as a copy of one before it in this reply."""
    seen: set[str] = set()
    checked_rows = []
    for row in rows:
        rejection = row.rejection or check_instruction(row.instruction, rules)
        text = normalise(row.instruction).casefold()
        if rejection is None and text in seen:
            rejection = Rejection("repeated_in_reply")
        seen.add(text)
        checked_rows.append(replace(row, rejection=rejection))
    return checked_rows
