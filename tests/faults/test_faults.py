"""The fault suite in its short form: each fault once, or so. `make faults` runs 200 seeded trials."""

import os
from collections.abc import Iterator

import pytest

from tests.faults.trials import FAULTS, Ground, Trial

# What takes long, or is nearly another one's twin, is left to the long form.
LONG = {"kill_at_the_training", "kill_generation_thrice", "flush_and_kill_redis", "kill_all_workers", "stop_teacher"}


@pytest.fixture(scope="module")
def ground(tmp_path_factory) -> Iterator[Ground]:
    os.environ.pop("SEEDBED_CONFIG", None)
    with Ground(tmp_path_factory.mktemp("faults")) as one:
        yield one


@pytest.mark.parametrize("fault", [name for name in FAULTS if name not in LONG])
def test_what_was_promised_holds(ground, fault):
    found = Trial(ground, 1, fault).work()
    assert found.clean, found.words
