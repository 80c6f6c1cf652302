"""Which records a run grows from: seeds, a run's rows, or a filter over the dataset."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ParentFilter(BaseModel):
    """All that is set must hold. Unset: every seed and accepted record of the dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    origin: Literal["seed", "generated", "imported"] | None = Field(default=None, description="Where they come from.")
    run_id: str | None = Field(default=None, max_length=100, description="Only rows of this run.")
    method: str | None = Field(default=None, max_length=100, description="Only rows that it made.")
    operation: str | None = Field(default=None, max_length=100, description="Only rows that it made.")
    topic: str | None = Field(default=None, max_length=200, description="As tagged by a judge or asked for.")
    text: str | None = Field(default=None, max_length=200, description="Part of the instruction.")
    answered: bool | None = Field(default=None, description="With an output, or without one.")
    minimum_scores: dict[str, float] = Field(
        default={}, description="Least stored scores by name, such as judge.overall."
    )
