"""Errors name the place of a fault as the caller wrote it."""

import pytest

from app.errors import pointer_in

BODY = {"rules": [{"name": "pattern", "pattern": "("}], "splits": {"train": 1}}


@pytest.mark.parametrize(
    ("location", "missing", "pointer"),
    [
        (("rules", "list", 0, "pattern", "pattern"), False, "/rules/0/pattern"),
        (("rules", "list", 0, "length"), False, "/rules/0"),
        (("rules", "list", 0, "words", "words"), True, "/rules/0/words"),
        (("splits", "trian", "[key]"), False, "/splits"),
        (("dataset_id",), True, "/dataset_id"),
        ((), False, ""),
    ],
)
def test_the_place_of_a_fault_has_no_names_of_types(location, missing, pointer):
    assert pointer_in(BODY, location, missing) == pointer
