"""What a line of an import may be, by its kind."""

import math
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from app.datasets.material import Document, LabelledRow
from app.synth.seeds import SeedTask
from app.synth.text import clean


def _direction(values: list[float]) -> list[float]:
    norm = math.sqrt(sum(value * value for value in values))
    if not math.isfinite(norm) or norm == 0:
        raise ValueError("a vector of finite numbers that are not all 0 is needed")
    return [value / norm for value in values]


# Strict would refuse the whole numbers among them.
Vector = Annotated[list[Annotated[float, Field(strict=False)]], Field(max_length=16384), AfterValidator(_direction)]


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
        return clean(value or "")


ROW_MODELS: dict[str, type[BaseModel]] = {
    "seeds": SeedTask,
    "records": ImportedRow,
    "instructions": InstructionRow,
    "labelled": LabelledRow,
    "documents": Document,
}
# Kept as material that runs draw from: not compared, not encoded.
MATERIAL = ("labelled", "documents")
