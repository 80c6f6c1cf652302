"""The state machine: by the table, and as docs/states.md draws it."""

import re
from pathlib import Path

import pytest

from app.errors import AppError
from app.tables.jobs import ENDED, STATES, TRANSITIONS
from app.tables.runs import Run

DOCUMENT = (Path(__file__).parent.parent / "docs" / "states.md").read_text("utf-8")


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("after", STATES)
def test_every_pair_of_states(before, after):
    run = Run(id="run_1", status=before)
    reason = "cancelled" if after in ENDED else None
    if after in TRANSITIONS[before]:
        run.move(after, reason)
        assert (run.status, run.stop_reason) == (after, reason)
    else:
        with pytest.raises(AppError) as found:
            run.move(after, reason)
        assert (found.value.status, found.value.type, run.status) == (409, "illegal-transition", before)


def test_nothing_ends_without_a_reason():
    with pytest.raises(ValueError, match="stop_reason"):
        Run(id="run_1", status="running").move("succeeded")


def test_the_drawing_has_exactly_the_transitions_of_the_code():
    drawn = set(re.findall(r"^    (\w+) --> (\w+)", DOCUMENT, re.MULTILINE))
    assert drawn == {(before, after) for before, all_after in TRANSITIONS.items() for after in all_after}


def test_the_table_has_exactly_the_transitions_of_the_code():
    table = DOCUMENT.split("| from | to |\n|---|---|\n")[1].split("\n\n")[0]
    listed = {
        before.strip(): {one.strip() for one in after.split(",") if one.strip()}
        for before, after in (line.strip("|").split("|") for line in table.splitlines())
    }
    assert listed == {before: set(after) for before, after in TRANSITIONS.items()}
