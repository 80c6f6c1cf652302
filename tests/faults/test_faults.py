"""The fault trials in their short form; `make test-long` has one of every kind, `make faults` 200 seeded ones."""

import os
from collections.abc import Iterator

import pytest

from tests.faults.trials import FAULTS, Ground, Trial

# What nothing else in the short form breaks: one of two workers, a lease, both stores, a message, an export, the files.
# Killed workers and a Redis that is wiped or killed are in tests/faulty_service/test_recovery.py.
SHORT = (
    *("kill_one_of_two", "sleep_past_the_lease", "both_stores_away"),
    *("ring_twice", "kill_at_the_export", "no_place_for_files"),
)


@pytest.fixture(scope="module")
def ground(tmp_path_factory) -> Iterator[Ground]:
    os.environ.pop("SEEDBED_CONFIG", None)
    with Ground(tmp_path_factory.mktemp("faults")) as one:
        yield one


@pytest.mark.parametrize(
    "fault", [name if name in SHORT else pytest.param(name, marks=pytest.mark.long) for name in FAULTS]
)
def test_what_was_promised_holds(ground, fault):
    findings = Trial(ground, 1, fault).work()
    assert findings.clean, findings.words
