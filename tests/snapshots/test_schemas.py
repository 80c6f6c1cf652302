"""What an order of a snapshot may say."""

import pytest
from pydantic import ValidationError

from app.snapshots.schemas import SnapshotCreate

NAN = float("nan")


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        ({"train": 0.5, "validation": 0.1, "test": 0.1}, "add up to 0.7"),
        ({"train": 1.1, "validation": -0.1}, "between 0 and 1"),
        ({"train": 0.0, "test": 1.0}, "train needs a share"),
        ({"validation": 1.0}, "train needs a share"),
        ({"train": NAN}, "between 0 and 1"),
        ({"train": 0.9, "holdout": 0.1}, "holdout"),
        ({"train": "1"}, "train"),
        ({"train": True}, "train"),
        ({}, "train needs a share"),
    ],
)
def test_shares_that_are_refused(splits, words):
    with pytest.raises(ValidationError, match=words):
        SnapshotCreate(dataset_id="ds_1", splits=splits)


@pytest.mark.parametrize("splits", [{"train": 1}, {"train": 0.8, "test": 0.2}, {"train": 1 / 3, "validation": 2 / 3}])
def test_shares_that_are_taken(splits):
    assert SnapshotCreate(dataset_id="ds_1", splits=splits).splits == splits


@pytest.mark.parametrize("forms", [[], ["alpaca", "alpaca"], ["xml"], "alpaca"])
def test_forms_that_are_refused(forms):
    with pytest.raises(ValidationError, match="forms"):
        SnapshotCreate(dataset_id="ds_1", forms=forms)


def test_what_is_ordered_by_naming_a_dataset_alone():
    spec = SnapshotCreate(dataset_id="ds_1").model_dump(exclude={"dataset_id"})
    assert spec == {
        "forms": ["alpaca", "messages", "sharegpt"],
        "splits": {"train": 0.9, "validation": 0.05, "test": 0.05},
        "seed": 0,
        "include_seeds": False,
        "run_id": None,
        "reasoning": "drop",
        "thought": "drop",
        "minimum_scores": {},
        "mix": None,
        "selection": None,
    }
