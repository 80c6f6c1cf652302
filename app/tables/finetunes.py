"""A fine-tune of a causal LM on a snapshot, and the metrics that its recipe has reported."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.jobs import FINETUNING, LeasedJob, Table, status_check


class FineTune(Table, LeasedJob):
    """A job that tunes a base model on a snapshot: its settings, its progress, and the model that it has produced."""

    __tablename__ = "finetunes"
    queue_name = FINETUNING
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    snapshot_id: Mapped[str] = mapped_column(ForeignKey("snapshots.id"))
    base_model: Mapped[str]
    method: Mapped[str]
    hyperparameters: Mapped[dict]
    seed: Mapped[int] = mapped_column(BigInteger)
    simulated: Mapped[bool]
    stage: Mapped[str | None]
    step: Mapped[int | None]
    total_steps: Mapped[int | None]
    model: Mapped[dict | None]
    evaluations: Mapped[list] = mapped_column(default=list)
    summary: Mapped[dict | None]
    artifacts: Mapped[list | None]
    __table_args__ = (status_check(), Index(None, "project_id", "id"), Index(None, "status"))


class Metric(Table):
    """One metrics row that the training process has printed. `values` has loss, learning_rate, grad_norm, tokens."""

    __tablename__ = "finetune_metrics"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    finetune_id: Mapped[str] = mapped_column(ForeignKey("finetunes.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    step: Mapped[int]
    values: Mapped[dict]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    __table_args__ = (Index(None, "finetune_id", "id"),)
