"""The filter of the records from which a run grows."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.synth.types import Parent


class ParentFilter(BaseModel):
    """A filter of records. All fields that are set must match; without any, every seed and accepted record passes."""

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


EQUAL_FIELDS = ("origin", "run_id", "method", "operation", "topic")
"""The fields of a filter that a record's field of the same name must equal."""


def passes_filter(parent: Parent, parent_filter: ParentFilter) -> bool:
    """Return whether the record passes the filter. A field that the record lacks matches no value.

    The conditions of `app.datasets.sampling_queries` are the same in SQL.
    """
    for name in EQUAL_FIELDS:
        value = getattr(parent_filter, name)
        if value is not None and getattr(parent, name) != value:
            return False
    if parent_filter.text is not None and parent_filter.text.lower() not in parent.instruction.lower():
        return False
    if parent_filter.answered is not None and (parent.output != "") != parent_filter.answered:
        return False
    scores = ((parent.scores.get(name), minimum) for name, minimum in parent_filter.minimum_scores.items())
    return all(score is not None and score >= minimum for score, minimum in scores)
