"""Likelihood scores: the perplexity and the IFD of a dataset's rows by a causal LM."""

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.jobs import SCORINGS, LeasedJob, Table, status_check


class LikelihoodScores(Table, LeasedJob):
    """A job that scores the rows of a dataset with a base model."""

    __tablename__ = "likelihood_scores"
    queue_name = SCORINGS
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    run_id: Mapped[str | None]
    base_model: Mapped[str]
    max_length: Mapped[int]
    rows: Mapped[int]
    done_rows: Mapped[int] = mapped_column(default=0)
    summary: Mapped[dict | None]
    __table_args__ = (status_check(), Index(None, "project_id", "id"), Index(None, "status"))
