"""Seed tasks: the bundled sets, and a parser for other seeds."""

import json
from functools import cache
from importlib import resources

from pydantic import BaseModel, ConfigDict, Field, field_validator

from app.synth.text import clean, normalise
from app.synth.types import Demonstration, Instance

BUNDLED = {"english": "en", "korean": "ko"}


class SeedInstance(BaseModel):
    """An instance of a seed task. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid")

    input: str = Field(default="", max_length=100_000)
    output: str = Field(max_length=100_000)

    @field_validator("input", "output")
    @classmethod
    def storable(cls, value: str) -> str:
        """Return the text in NFC, trimmed, without characters that PostgreSQL cannot store."""
        return clean(value)


class SeedTask(BaseModel):
    """One seed task in the format of the published Self-Instruct seeds (Wang et al. 2023). Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid")

    id: str | None = Field(default=None, max_length=200)
    name: str | None = Field(default=None, max_length=200)
    instruction: str = Field(max_length=20_000)
    # Prompts show a few instances at most, so that a long list would only take memory.
    instances: list[SeedInstance] = Field(default=[], max_length=20)
    is_classification: bool = False

    @field_validator("instruction")
    @classmethod
    def not_blank(cls, value: str) -> str:
        """Refuse a blank instruction, and return it in NFC, trimmed."""
        if not normalise(value):
            raise ValueError("must not be empty")
        return clean(value)


def parse_seed(value: dict) -> SeedTask:
    """Validate a seed task.

    Raises:
        pydantic.ValidationError: fields are invalid; the error names each of them.
    """
    return SeedTask.model_validate(value)


@cache
def bundled_tasks(name: str) -> tuple[SeedTask, ...]:
    """Return the tasks of a bundled set.

    Raises:
        KeyError: no bundled set has this name.
    """
    # Checked by name, so that no path can be built from user input.
    if name not in BUNDLED:
        raise KeyError(f"no bundled seeds named {name!r}; there are {', '.join(BUNDLED)}")
    # Not splitlines: a text may contain U+2028, at which it would split.
    lines = (resources.files(__name__) / f"{name}.jsonl").read_text("utf-8").split("\n")
    return tuple(SeedTask.model_validate(json.loads(line)) for line in lines if line)


def load_seeds(name: str = "english") -> list[Demonstration]:
    """Return a bundled set as demonstrations.

    Raises:
        KeyError: no bundled set has this name.
    """
    return [to_demonstration(task, task.id or f"{name}-{n}") for n, task in enumerate(bundled_tasks(name))]


def to_demonstration(task: SeedTask, id: str) -> Demonstration:
    """Return a seed task as a demonstration for a prompt."""
    instances = tuple(Instance(instance.input, instance.output) for instance in task.instances)
    return Demonstration(id, task.instruction, instances, task.is_classification)
