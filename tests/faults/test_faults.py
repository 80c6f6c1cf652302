"""The fault trials in their short form; `make test-long` has one of every kind, `make faults` 200 seeded ones."""

import os
from collections.abc import Iterator

import pytest

from tests.faults.trials import FAULTS, RunningService, Trial

# The faults that no other test of the short form covers: one of two workers, a lease, both stores, a wake-up, an
# export, the files.
# Killed workers and a Redis that is wiped or killed are in tests/faulty_service/test_recovery.py.
SHORT = (
    *("kill_one_of_two", "sleep_past_the_lease", "both_stores_away"),
    *("notify_twice", "kill_at_the_export", "no_place_for_files"),
)


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[RunningService]:
    os.environ.pop("SEEDBED_CONFIG", None)
    with RunningService(tmp_path_factory.mktemp("faults")) as running_service:
        yield running_service


@pytest.mark.parametrize(
    "fault", [name if name in SHORT else pytest.param(name, marks=pytest.mark.long) for name in FAULTS]
)
def test_what_was_promised_holds(service, fault):
    findings = Trial(service, 1, fault).work()
    assert findings.clean, findings.messages
