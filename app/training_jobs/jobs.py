"""The models of the job files. A worker writes such a file, and a recipe reads it."""

import json
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.training_jobs.hyperparameters import Hyperparameters, Seed

# In the order in which the model card and the events list them.
SPLITS = ("train", "validation", "test")
# For each kind of base model: the allowed fields, and the required fields among them.
SOURCE_FIELDS = {"tiny": ((), ()), "path": (("path",), ("path",)), "hub": (("name", "revision"), ("name",))}


def require_absolute(path: Path) -> Path:
    """Return the path. Raises ValueError if it is not absolute or has a null byte."""
    # A recipe may run in another current directory than the worker that wrote its job.
    if not path.is_absolute() or "\0" in str(path):
        raise ValueError("must be an absolute path")
    return path


def require_hub_name(name: str) -> str:
    """Return the name. Raises ValueError if it looks like a path, which the hub's client would open as a folder."""
    if name.startswith(("/", ".")):
        raise ValueError("must be a name on the hub, like org/model")
    return name


# The models are strict, but JSON has no paths: they are strings there.
AbsolutePath = Annotated[Path, Field(strict=False), AfterValidator(require_absolute)]
HubName = Annotated[str, Field(min_length=1), AfterValidator(require_hub_name)]
ScoredLength = Annotated[int, Field(ge=16, le=131_072)]


class JobModel(BaseModel):
    """The base of all job models. Unknown keys are an error, since a misspelt key would otherwise be ignored."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class BaseModelSource(JobModel):
    """The base model of a job.

    Attributes:
        kind: tiny (the recipe makes the model), path (a folder of this machine) or hub (a model of the hub).
        path: The folder of the model, for the kind path.
        name: The name on the hub, such as org/model, for the kind hub.
        revision: The revision on the hub; null stands for main.
    """

    kind: Literal["tiny", "path", "hub"]
    path: AbsolutePath | None = None
    name: HubName | None = None
    revision: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def check_fields_of_kind(self) -> "BaseModelSource":
        """Raise ValueError for a field that the kind does not allow, or lacks."""
        allowed, required = SOURCE_FIELDS[self.kind]
        for name in ("path", "name", "revision"):
            if getattr(self, name) is not None and name not in allowed:
                raise ValueError(f"a base model of the kind {self.kind!r} takes no field {name!r}")
            if getattr(self, name) is None and name in required:
                raise ValueError(f"a base model of the kind {self.kind!r} needs the field {name!r}")
        return self

    @property
    def shown(self) -> str:
        """Return the name to publish. It is never a path of this machine."""
        return self.name or (self.path.name if self.path else "base")


class SplitFiles(JobModel):
    """The messages file of each split, as JSON lines."""

    train: AbsolutePath
    validation: AbsolutePath | None = None
    test: AbsolutePath | None = None

    def by_split(self) -> dict[str, Path]:
        """Return the path of each split that has a file."""
        return {split: path for split in SPLITS if (path := getattr(self, split)) is not None}


class FineTuneJob(JobModel):
    """The job of one fine-tune. The recipe writes its artifacts below `output_dir`.

    `simulated` says that the rows come from the simulated teacher, which the model card repeats.
    """

    output_dir: AbsolutePath
    files: SplitFiles
    base_model: BaseModelSource
    method: Literal["lora"] = "lora"
    hyperparameters: Hyperparameters = Field(default_factory=Hyperparameters)
    seed: Seed = 0
    simulated: bool


class ScoreJob(JobModel):
    """The job of scoring rows with a base model.

    `rows` is a file of JSON lines {id, messages}. Rows are truncated after `max_length` tokens.
    """

    rows: AbsolutePath
    base_model: BaseModelSource
    max_length: ScoredLength = 1024
    seed: Seed = 0


Job = TypeVar("Job", bound=JobModel)


class JobError(ValueError):
    """A job is not valid. The message names the field, its value, and what the value should be."""


def parse_job(content: object, model: type[Job]) -> Job:
    """Return the job in decoded JSON.

    Args:
        content: The decoded JSON.
        model: The class of the job, FineTuneJob or ScoreJob.

    Raises:
        JobError: The content is not a valid job.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise JobError(_describe_first_fault(error, model)) from error


def _describe_first_fault(error: ValidationError, model: type[BaseModel]) -> str:
    # One error at a time: the others often follow from the first.
    fault = error.errors(include_url=False)[0]
    *parents, field = fault["loc"] or ("the job",)
    parent = ".".join(map(str, parents)) or "the job"
    if fault["type"] == "extra_forbidden":
        for name in parents:
            model = model.model_fields[name].annotation
        return f"Unknown field {field!r} in {parent}. The known fields are: {', '.join(model.model_fields)}."
    if fault["type"] == "missing":
        return f"The field {field!r} is missing in {parent}."
    path = ".".join(map(str, [*parents, field]))
    reason = "must be an object" if fault["type"] == "model_type" else fault["msg"].removeprefix("Value error, ")
    return f"{path}: {reason}; it is {json.dumps(fault['input'], default=str)[:80]}."
