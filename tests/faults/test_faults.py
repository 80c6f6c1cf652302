"""The fault suite in its short form: a fault of each kind. `make faults` runs 200 seeded trials of all."""

import os
from collections.abc import Iterator

import pytest

from tests.faults.trials import Ground, Trial

# One of each kind: the others are in the long form.
SHORT = (
    *("kill_generation", "kill_one_of_two", "kill_teacher", "kill_at_the_export", "flush_and_kill_redis"),
    *("both_stores_away", "sleep_past_the_lease", "ring_twice", "late_clock", "no_place_for_files"),
    "no_memory_for_the_training",
)


@pytest.fixture(scope="module")
def ground(tmp_path_factory) -> Iterator[Ground]:
    os.environ.pop("SEEDBED_CONFIG", None)
    with Ground(tmp_path_factory.mktemp("faults")) as one:
        yield one


@pytest.mark.parametrize("fault", SHORT)
def test_what_was_promised_holds(ground, fault):
    found = Trial(ground, 1, fault).work()
    assert found.clean, found.words
