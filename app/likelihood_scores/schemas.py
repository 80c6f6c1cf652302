"""Bodies and answers of scorings."""

from pydantic import Field

from app.api.schemas import Body, JobView
from app.tables.scorings import Scoring
from app.training_jobs.jobs import ScoredLength


class ScoringCreate(Body):
    """Which rows to score, and with which causal language model."""

    model_config = {"json_schema_extra": {"examples": [{"dataset_id": "ds_…", "base_model": "tiny"}]}}

    dataset_id: str = Field(max_length=100)
    base_model: str = Field(default="tiny", max_length=100, description="A name from GET /v1/base-models.")
    run_id: str | None = Field(default=None, max_length=100, description="Only the rows of this run.")
    max_length: ScoredLength = Field(default=1024, description="Longer rows are cut after so many tokens.")


class ScoringView(JobView):
    dataset_id: str
    run_id: str | None
    base_model: str
    max_length: int
    rows: int
    done_rows: int
    summary: dict | None


def scoring_view(row: Scoring) -> ScoringView:
    return ScoringView.model_validate(row)
