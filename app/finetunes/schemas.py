"""Request and response bodies of fine-tunes and base models."""

from typing import Literal

from pydantic import Field

from app.api.schemas import Body, JobView, Time, View
from app.datasets.schemas import SIMULATED_NOTE
from app.tables.finetunes import FineTune, Metric
from app.training_jobs.hyperparameters import Hyperparameters, Seed


class FineTuneCreate(Body):
    """A fine-tune of a base model on a snapshot.

    The base model `tiny` is a small model that is pre-trained on the text of the snapshot.
    """

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
    """A file of a fine-tune. `name` is relative to the folder of the artifacts, `sha256` is in hexadecimal."""

    name: str
    bytes: int
    sha256: str


class FineTuneView(JobView):
    """A fine-tune: its settings, the progress of its current stage, and its results as soon as they exist."""

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
    """Return the view of a row, with a note if its data came from the simulated teacher."""
    fields = {name: getattr(row, name) for name in FineTuneView.model_fields if name != "note"}
    return FineTuneView(**fields, note=SIMULATED_NOTE if row.simulated else None)


class MetricView(View):
    """The metrics that the trainer logged at one step."""

    step: int
    values: dict
    created_at: Time


class MetricPage(View):
    """A page of metrics. `next` is the `after` of the request for the next page."""

    data: list[MetricView]
    has_more: bool
    next: str | None


def metric_page(rows: list[Metric], limit: int) -> MetricPage:
    """Return the first `limit` rows as a page. `rows` has one row more if there is a next page."""
    # The store reads one row more than the page has, which costs less than a count.
    has_more = len(rows) > limit
    data = [MetricView.model_validate(row) for row in rows[:limit]]
    return MetricPage(data=data, has_more=has_more, next=str(rows[limit - 1].id) if has_more else None)


class BaseModelView(View):
    """A base model that the operator has configured. Its path is not shown, since paths of a server are private."""

    name: str
    kind: str
    hub: str | None
    revision: str | None


class BaseModelList(View):
    """All base models."""

    data: list[BaseModelView]


class ArtifactList(View):
    """All files of a fine-tune."""

    data: list[ArtifactView]
