"""Request and response bodies of likelihood scores."""

from pydantic import Field

from app.api.schemas import Body, JobView
from app.tables.likelihood_scores import LikelihoodScores
from app.training_jobs.jobs import ScoredLength


class LikelihoodScoresCreate(Body):
    """The rows to score, and the causal language model that scores them."""

    model_config = {"json_schema_extra": {"examples": [{"dataset_id": "ds_…", "base_model": "tiny"}]}}

    dataset_id: str = Field(max_length=100)
    base_model: str = Field(default="tiny", max_length=100, description="A name from GET /v1/base-models.")
    run_id: str | None = Field(default=None, max_length=100, description="Only the rows of this run.")
    max_length: ScoredLength = Field(default=1024, description="The most tokens of a row. Longer rows are truncated.")


class LikelihoodScoresView(JobView):
    """A job that scores rows: its settings, the number of scored rows, and at the end the means of the scores."""

    dataset_id: str
    run_id: str | None
    base_model: str
    max_length: int
    rows: int
    done_rows: int
    summary: dict | None


def likelihood_scores_view(row: LikelihoodScores) -> LikelihoodScoresView:
    """Return the view of a row."""
    return LikelihoodScoresView.model_validate(row)
