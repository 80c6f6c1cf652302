"""The job files: what a worker writes and a recipe reads, in the same models."""

import json
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.training_jobs.hyperparameters import Hyperparameters, Seed

SPLITS = ("train", "validation", "test")
# The fields that name a base model of each kind, and those of them that must be there.
SOURCE_FIELDS = {"tiny": ((), ()), "path": (("path",), ("path",)), "hub": (("name", "revision"), ("name",))}


def require_absolute(path: Path) -> Path:
    if not path.is_absolute() or "\0" in str(path):
        raise ValueError("must be an absolute path")
    return path


def require_hub_name(name: str) -> str:
    if name.startswith(("/", ".")):
        raise ValueError("must be a name on the hub, like org/model")
    return name


# A job is strict, but its paths come as texts of JSON.
AbsolutePath = Annotated[Path, Field(strict=False), AfterValidator(require_absolute)]
HubName = Annotated[str, Field(min_length=1), AfterValidator(require_hub_name)]
ScoredLength = Annotated[int, Field(ge=16, le=131_072)]


class JobModel(BaseModel):
    """Unknown keys are refused: a misspelt one would be ignored in silence."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class BaseModelSource(JobModel):
    """kind tiny (made on the spot), path (a folder of this machine) or hub (a name with a pinned revision)."""

    kind: Literal["tiny", "path", "hub"]
    path: AbsolutePath | None = None
    name: HubName | None = None
    revision: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def check_fields_of_kind(self) -> "BaseModelSource":
        allowed, required = SOURCE_FIELDS[self.kind]
        for name in ("path", "name", "revision"):
            if getattr(self, name) is not None and name not in allowed:
                raise ValueError(f"a base model of the kind {self.kind!r} takes no field {name!r}")
            if getattr(self, name) is None and name in required:
                raise ValueError(f"a base model of the kind {self.kind!r} needs the field {name!r}")
        return self

    @property
    def shown(self) -> str:
        """The name to publish: never a path of this machine."""
        return self.name or (self.path.name if self.path else "base")


class SplitFiles(JobModel):
    """The messages file of each split, as JSON lines."""

    train: AbsolutePath
    validation: AbsolutePath | None = None
    test: AbsolutePath | None = None

    def by_split(self) -> dict[str, Path]:
        return {split: path for split in SPLITS if (path := getattr(self, split)) is not None}


class FineTuneJob(JobModel):
    """What one fine-tune is asked to do. The recipe writes below `output_dir`."""

    output_dir: AbsolutePath
    files: SplitFiles
    base_model: BaseModelSource
    method: Literal["lora"] = "lora"
    hyperparameters: Hyperparameters = Field(default_factory=Hyperparameters)
    seed: Seed = 0
    simulated: bool


class ScoreJob(JobModel):
    """Which rows to score, by which model. `rows`: JSON lines {id, messages}, cut after `max_length` tokens."""

    rows: AbsolutePath
    base_model: BaseModelSource
    max_length: ScoredLength = 1024
    seed: Seed = 0


Job = TypeVar("Job", bound=JobModel)


class JobError(ValueError):
    """A job that no recipe can do. The message names the field, what stands there and what it should be."""


def parse_job(content: object, model: type[Job]) -> Job:
    """The job in decoded JSON. Raises JobError."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise JobError(_describe_first_fault(error, model)) from error


def _describe_first_fault(error: ValidationError, model: type[BaseModel]) -> str:
    fault = error.errors(include_url=False)[0]
    *parents, field = fault["loc"] or ("the job",)
    parent = ".".join(map(str, parents)) or "the job"
    if fault["type"] == "extra_forbidden":
        for name in parents:
            model = model.model_fields[name].annotation
        return f"Unknown field {field!r} in {parent}; it knows {', '.join(model.model_fields)}."
    if fault["type"] == "missing":
        return f"The field {field!r} is missing in {parent}."
    path = ".".join(map(str, [*parents, field]))
    reason = "must be an object" if fault["type"] == "model_type" else fault["msg"].removeprefix("Value error, ")
    return f"{path}: {reason}; it is {json.dumps(fault['input'], default=str)[:80]}."
