"""Bodies and answers of snapshots."""

from typing import Literal

from pydantic import Field, field_validator

from app.datasets.schemas import SIMULATED_NOTE
from app.schemas import Body, JobView, View
from app.tables.snapshots import Snapshot

Form = Literal["alpaca", "messages", "sharegpt"]
Split = Literal["train", "validation", "test"]


class SnapshotCreate(Body):
    """Which rows, in which forms and splits. The rows are those in the pool at this moment."""

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
    seed: int = Field(default=0, ge=0, lt=2**31, description="Of the assignment of rows to splits.")
    include_seeds: bool = Field(default=False, description="Seeds with an output, too.")
    run_id: str | None = Field(default=None, max_length=100, description="Only rows that this run made.")

    @field_validator("forms")
    @classmethod
    def each_once(cls, forms: list[str]) -> list[str]:
        if len(set(forms)) != len(forms):
            raise ValueError("each form once")
        return forms

    @field_validator("splits")
    @classmethod
    def shares_of_one(cls, splits: dict[str, float]) -> dict[str, float]:
        if any(not 0 <= share <= 1 for share in splits.values()):
            raise ValueError("each share lies between 0 and 1")
        if splits.get("train", 0) <= 0:
            raise ValueError("train needs a share above 0")
        if abs(sum(splits.values()) - 1) > 1e-6:
            raise ValueError(f"the shares add up to {sum(splits.values()):g}, not to 1")
        return splits


class FileView(View):
    name: str
    form: str
    split: str
    rows: int
    bytes: int
    sha256: str


class SnapshotView(JobView):
    dataset_id: str
    spec: dict
    rows: int | None
    splits: dict[str, int] | None
    files: list[FileView] | None
    digest: str | None
    simulated: bool | None
    note: str | None


def snapshot_view(row: Snapshot) -> SnapshotView:
    fields = {name: getattr(row, name) for name in SnapshotView.model_fields if name != "note"}
    return SnapshotView(**fields, note=SIMULATED_NOTE if row.simulated else None)
