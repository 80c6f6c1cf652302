"""What an order of a fine-tune may say: nothing that the recipe would then refuse."""

import dataclasses

import pytest
from pydantic import ValidationError

from app.finetunes.schemas import FineTuneCreate, Hyperparameters
from workers.recipes.job import Hyperparameters as OfTheRecipe
from workers.recipes.job import parse_job

EDGES = [None, 0, 0.0, 1e-9, 0.5, 0.999, 1, 1.0, 16, 100, 512, 1024, 4095, 4096, 32_768, 10_000_000]
WORDS = ["cosine", "linear", "constant", True, False]
NUMBERS_JSON_LACKS = [float("nan"), float("inf")]


def taken(name: str, value) -> dict | None:
    """The hyperparameters of the job, or None when the service refuses the value."""
    try:
        return Hyperparameters(**{name: value}).model_dump(mode="json", exclude_unset=True)
    except ValidationError:
        return None


@pytest.mark.parametrize("name", Hyperparameters.model_fields)
def test_what_the_service_takes_the_recipe_takes(name):
    jobs = [job for value in EDGES + WORDS if (job := taken(name, value)) is not None]
    assert jobs
    for job in jobs:
        base = {"output_dir": "/out", "files": {"train": "/train"}, "base_model": {"kind": "tiny"}, "simulated": False}
        parse_job(base | {"hyperparameters": job})


@pytest.mark.parametrize("name", Hyperparameters.model_fields)
@pytest.mark.parametrize("value", [*NUMBERS_JSON_LACKS, -1, "x"])
def test_values_that_no_field_takes(name, value):
    assert taken(name, value) is None


def test_the_documented_defaults_are_the_recipes():
    told = {name: field.default for name, field in Hyperparameters.model_fields.items()}
    assert told == {field.name: field.default for field in dataclasses.fields(OfTheRecipe)}


def test_what_is_left_out_stays_out_of_the_job():
    body = FineTuneCreate(snapshot_id="snap_1", hyperparameters={"epochs": 2, "learning_rate": None})
    assert body.hyperparameters.model_dump(mode="json", exclude_unset=True) == {"epochs": 2.0, "learning_rate": None}
    assert FineTuneCreate(snapshot_id="snap_1").hyperparameters.model_dump(exclude_unset=True) == {}
