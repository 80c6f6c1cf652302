"""What an order of a fine-tune may say: the model of its settings is the recipe's own."""

import pytest
from pydantic import ValidationError

from app.finetunes.schemas import FineTuneCreate
from app.training_jobs.hyperparameters import Hyperparameters
from app.training_jobs.jobs import FineTuneJob, parse_job

EDGES = [None, 0, 0.0, 1e-9, 0.5, 0.999, 1, 1.0, 16, 100, 512, 1024, 4095, 4096, 32_768, 10_000_000]
OTHER_VALUES = ["cosine", "linear", "constant", True, False]
NUMBERS_JSON_LACKS = [float("nan"), float("inf")]


def accepted(name: str, value) -> dict | None:
    """The hyperparameters as a job file holds them, or None when the service refuses the value."""
    try:
        body = FineTuneCreate(snapshot_id="snap_1", hyperparameters={name: value})
    except ValidationError:
        return None
    return body.hyperparameters.model_dump(mode="json", exclude_unset=True)


@pytest.mark.parametrize("name", Hyperparameters.model_fields)
def test_what_the_service_takes_the_recipe_takes(name):
    jobs = [job for value in EDGES + OTHER_VALUES if (job := accepted(name, value)) is not None]
    assert jobs
    for job in jobs:
        base = {"output_dir": "/out", "files": {"train": "/train"}, "base_model": {"kind": "tiny"}, "simulated": False}
        parse_job(base | {"hyperparameters": job}, FineTuneJob)


@pytest.mark.parametrize("name", Hyperparameters.model_fields)
@pytest.mark.parametrize("value", [*NUMBERS_JSON_LACKS, -1, "x"])
def test_values_that_no_field_takes(name, value):
    assert accepted(name, value) is None


def test_what_is_left_out_stays_out_of_the_job():
    body = FineTuneCreate(snapshot_id="snap_1", hyperparameters={"epochs": 2, "learning_rate": None})
    assert body.hyperparameters.model_dump(mode="json", exclude_unset=True) == {"epochs": 2.0, "learning_rate": None}
    assert FineTuneCreate(snapshot_id="snap_1").hyperparameters.model_dump(exclude_unset=True) == {}
