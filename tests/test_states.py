"""The state machine: by the table, and as docs/states.md draws it."""

import re
from pathlib import Path

import pytest

from app.errors import AppError
from app.jobs import queue
from app.tables.jobs import ENDED, STATES, TRANSITIONS, job_tables
from app.tables.runs import Run
from workers import sweeper

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
        before.strip(): {item.strip() for item in after.split(",") if item.strip()}
        for before, after in (line.strip("|").split("|") for line in table.splitlines())
    }
    assert listed == {before: set(after) for before, after in TRANSITIONS.items()}


def test_every_table_of_jobs_names_the_queue_of_its_tasks():
    # A run is no kind of leased job: its batches are leased one by one.
    tasks = [(kind.table, kind.task) for kind in sweeper.KINDS] + [(Run, queue.RUN)]
    assert {table for table, _ in tasks} == set(job_tables())
    assert all(table.queue_name == queue.QUEUE_OF[task] for table, task in tasks)
