"""Bodies and answers of fine-tunes and base models."""

from typing import Literal

from pydantic import Field

from app.api.schemas import Body, JobView, Time, View
from app.datasets.schemas import SIMULATED_NOTE
from app.tables.finetunes import FineTune, Metric
from app.training_jobs.hyperparameters import Hyperparameters, Seed


class FineTuneCreate(Body):
    """Tune a base model on a snapshot. `tiny` is a small model made on the spot from the snapshot's text."""

    model_config = {
        "json_schema_extra": {
            "examples": [{"snapshot_id": "snap_…", "base_model": "tiny", "hyperparameters": {"epochs": 3}}]
        }
    }

    snapshot_id: str = Field(max_length=100)
    base_model: str = Field(default="tiny", max_length=100, description="A name from GET /v1/base-models.")
    method: Literal["lora"] = "lora"
    hyperparameters: Hyperparameters = Field(default_factory=Hyperparameters)
    seed: Seed = 0


class ArtifactView(View):
    name: str
    bytes: int
    sha256: str


class FineTuneView(JobView):
    snapshot_id: str
    base_model: str
    method: str
    hyperparameters: dict
    seed: int
    simulated: bool
    note: str | None
    stage: str | None
    step: int | None
    total_steps: int | None
    model: dict | None
    evaluations: list[dict]
    summary: dict | None
    artifacts: list[ArtifactView] | None


def fine_tune_view(row: FineTune) -> FineTuneView:
    fields = {name: getattr(row, name) for name in FineTuneView.model_fields if name != "note"}
    return FineTuneView(**fields, note=SIMULATED_NOTE if row.simulated else None)


class MetricView(View):
    step: int
    values: dict
    created_at: Time


class MetricPage(View):
    data: list[MetricView]
    has_more: bool
    next: str | None


def metric_page(rows: list[Metric], limit: int) -> MetricPage:
    more = len(rows) > limit
    data = [MetricView.model_validate(row) for row in rows[:limit]]
    return MetricPage(data=data, has_more=more, next=str(rows[limit - 1].id) if more else None)


class BaseModelView(View):
    """A base model as the operator configured it. A local path is not shown."""

    name: str
    kind: str
    hub: str | None
    revision: str | None


class BaseModelList(View):
    data: list[BaseModelView]


class ArtifactList(View):
    data: list[ArtifactView]
