"""The job of a scoring: its rows and its model. It is validated before anything slow starts."""

import json
from dataclasses import dataclass
from pathlib import Path

from workers.recipes.failures import Failure
from workers.recipes.job import BaseModel, parse_absolute, parse_base_model, parse_object, parse_whole


@dataclass(frozen=True)
class ScoreJob:
    """The settings of one scoring.

    Attributes:
        rows: A file of JSON lines {id, messages}.
        base_model: The model that scores.
        max_length: The most tokens of a row; longer rows are truncated.
        seed: The seed of the tiny base model.
    """

    rows: Path
    base_model: BaseModel
    max_length: int
    seed: int


def read_score_job(path: Path) -> ScoreJob:
    """Read and validate a job file.

    Raises:
        Failure: invalid_job, with the name of the field and the value that it should have.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Failure("invalid_job", f"The job file cannot be read: {error}.") from error
    field_names = ("rows", "base_model", "max_length", "seed")
    parse_object(raw, "the job", field_names, ("rows", "base_model"))
    return ScoreJob(
        rows=parse_absolute(raw["rows"], "rows"),
        base_model=parse_base_model(raw["base_model"]),
        max_length=parse_whole(raw.get("max_length", 1024), "max_length", 16, 131_072),
        seed=parse_whole(raw.get("seed", 0), "seed", 0, 2**32 - 1),
    )
