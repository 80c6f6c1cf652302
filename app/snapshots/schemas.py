"""Request bodies and responses of snapshots."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from app.api.schemas import Body, JobView, View
from app.datasets.schemas import SIMULATED_NOTE
from app.synth.export.formats import FORMS, ThoughtPlace
from app.tables.snapshots import Snapshot

Form = Literal[*FORMS]
Split = Literal["train", "validation", "test"]


class Selection(Body):
    """A selection of the best rows, or of rows that represent the others.

    Scores are named as in records: judge.overall, …
    """

    method: Literal["top_k", "quality_complexity", "facility_location"]
    k: int = Field(ge=1, description="The maximum of rows.")
    quality: str = Field(default="judge.overall", max_length=100, description="The score that counts as quality.")
    complexity: str = Field(default="judge.difficulty", max_length=100)
    max_similarity: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="quality_complexity skips a row whose cosine to any selected row is above this.",
    )


class Mix(Body):
    """The shares of the methods: by weight, or by size^(1/T). The snapshot has as many rows as these shares allow.

    Rows without a method count under their origin: seed, imported.
    """

    weights: dict[str, float] | None = Field(default=None, min_length=1, description="Weights of methods.")
    temperature: float = Field(
        default=1.0, ge=1, le=100, description="1: shares by size. A high value: nearly equal shares."
    )

    @field_validator("weights")
    @classmethod
    def require_positive_weights(cls, weights: dict[str, float] | None) -> dict[str, float] | None:
        """Raise a ValueError for a weight that is not above 0, or not finite."""
        if weights is not None and any(not 0 < weight < float("inf") for weight in weights.values()):
            raise ValueError("each weight must be above 0; leave out the methods that you do not want")
        return weights


class SnapshotCreate(Body):
    """The rows, forms and splits of a snapshot. It includes rows that are in the pool at this moment."""

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "dataset_id": "ds_…",
                    "forms": ["alpaca", "messages", "sharegpt"],
                    "splits": {"train": 0.9, "validation": 0.05, "test": 0.05},
                }
            ]
        }
    }

    dataset_id: str = Field(max_length=100)
    forms: list[Form] = Field(default=["alpaca", "messages", "sharegpt"], min_length=1)
    splits: dict[Split, float] = Field(default={"train": 0.9, "validation": 0.05, "test": 0.05})
    seed: int = Field(default=0, ge=0, lt=2**31, description="Of the assignment of rows to splits, and of the mixture.")
    include_seeds: bool = Field(default=False, description="Include the seeds that have an output.")
    run_id: str | None = Field(default=None, max_length=100, description="Only rows of this run.")
    reasoning: Literal["drop", "include"] = Field(
        default="drop", description="The reasoning of a row: left out, or put before its output."
    )
    thought: ThoughtPlace = Field(
        default="drop",
        description="What the teacher thought before it answered: left out; first, between <think> tags before the "
        "output; template, as reasoning_content of the last message, for the chat template of a reasoning model.",
    )
    minimum_scores: dict[str, float] = Field(
        default={}, max_length=50, description="Only rows with at least these scores, such as judge.overall."
    )
    mix: Mix | None = None
    selection: Selection | None = None

    @field_validator("forms")
    @classmethod
    def require_distinct_forms(cls, forms: list[str]) -> list[str]:
        """Raise a ValueError for a form that is named twice."""
        # Each form gives a file for each split, and two forms of one name would write the same file.
        if len(set(forms)) != len(forms):
            raise ValueError("name each form only once")
        return forms

    @model_validator(mode="after")
    def has_messages_for_the_template(self) -> "SnapshotCreate":
        """Raise a ValueError where the thought belongs into messages, and no such form is exported."""
        if self.thought == "template" and "messages" not in self.forms:
            raise ValueError("thought: template writes into the form messages; add it to forms, or choose first")
        return self

    @field_validator("splits")
    @classmethod
    def require_shares_of_one(cls, splits: dict[str, float]) -> dict[str, float]:
        """Raise a ValueError for shares that do not add up to 1, or that leave no row to train on."""
        if any(not 0 <= share <= 1 for share in splits.values()):
            raise ValueError("each share lies between 0 and 1")
        if splits.get("train", 0) <= 0:
            raise ValueError("train needs a share above 0")
        # Shares such as 0.1 have no exact value in binary, so their sum may differ from 1 a little.
        if abs(sum(splits.values()) - 1) > 1e-6:
            raise ValueError(f"the shares add up to {sum(splits.values()):g}, not to 1")
        return splits


class FileView(View):
    """A data file of a snapshot: the rows of one split in one form. `name` is its name for the download."""

    name: str
    form: str
    split: str
    rows: int
    bytes: int
    sha256: str


class SnapshotView(JobView):
    """A snapshot. Counts, files and digest are null until it has succeeded. `spec` is the request."""

    dataset_id: str
    spec: dict
    rows: int | None
    splits: dict[str, int] | None
    files: list[FileView] | None
    digest: str | None
    simulated: bool | None
    note: str | None


def snapshot_view(row: Snapshot) -> SnapshotView:
    """Return the response for the snapshot."""
    fields = {name: getattr(row, name) for name in SnapshotView.model_fields if name != "note"}
    return SnapshotView(**fields, note=SIMULATED_NOTE if row.simulated else None)
