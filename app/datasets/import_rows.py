"""The models of an import's lines, by the kind of the import."""

import math
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from app.datasets.material import Document, LabelledRow
from app.synth.seeds import SeedTask
from app.synth.text import clean


def _normalise_length(values: list[float]) -> list[float]:
    norm = math.sqrt(sum(value * value for value in values))
    if not math.isfinite(norm) or norm == 0:
        raise ValueError("the embedding must be finite numbers that are not all 0")
    return [value / norm for value in values]


# Not strict: JSON has no difference between 1 and 1.0, and a strict float would refuse the whole number.
Vector = Annotated[
    list[Annotated[float, Field(strict=False)]], Field(max_length=16384), AfterValidator(_normalise_length)
]


class ImportedRow(BaseModel):
    """One line of kind `records`: the Alpaca form."""

    model_config = ConfigDict(extra="forbid", strict=True)

    instruction: str = Field(max_length=100_000)
    input: str | None = Field(default="", max_length=400_000)
    output: str = Field(max_length=400_000)
    embedding: Vector | None = None

    @field_validator("instruction", "input", "output")
    @classmethod
    def storable(cls, value: str | None) -> str:
        """Normalise the text, and remove characters that Postgres refuses. A null is an empty text."""
        return clean(value or "")


class InstructionRow(BaseModel):
    """One line of kind `instructions`: a question that has no answer yet."""

    model_config = ConfigDict(extra="forbid", strict=True)

    instruction: str = Field(max_length=100_000)
    input: str | None = Field(default="", max_length=400_000)
    embedding: Vector | None = None

    @field_validator("instruction", "input")
    @classmethod
    def storable(cls, value: str | None) -> str:
        """Normalise the text, and remove characters that Postgres refuses. A null is an empty text."""
        return clean(value or "")


ROW_MODELS: dict[str, type[BaseModel]] = {
    "seeds": SeedTask,
    "records": ImportedRow,
    "instructions": InstructionRow,
    "labelled": LabelledRow,
    "documents": Document,
}
# Stored as material that runs draw from, while lines of the other kinds become rows of the dataset.
MATERIAL = ("labelled", "documents")
