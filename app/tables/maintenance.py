"""Maintenance jobs decide again on the rows of a dataset; a decontamination looks for the items of evaluation sets."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    UniqueConstraint,
    func,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.jobs import GENERATION, LeasedJob, Table, status_check


class MaintenanceJob(Table, LeasedJob):
    """A job on rows that were decided on before.

    refilter: a run's candidates under other thresholds or rules. decontamination: rows against evaluation sets.
    reencoding: all rows by another encoder. `settings` is the request, `result` has the counts of its outcome.
    """

    __tablename__ = "maintenance_jobs"
    queue_name = GENERATION
    changes_pool = True
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    run_id: Mapped[str | None] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    kind: Mapped[str]
    settings: Mapped[dict]
    result: Mapped[dict] = mapped_column(default=dict)
    rows: Mapped[int] = mapped_column(default=0)
    done_rows: Mapped[int] = mapped_column(default=0)
    __table_args__ = (
        status_check(),
        CheckConstraint("kind IN ('refilter', 'decontamination', 'reencoding')", name="kind"),
        Index(None, "dataset_id", "id"),
        Index(None, "project_id", "id"),
    )

    @classmethod
    def excludes_other_jobs(cls) -> ColumnElement[bool]:
        """Return the condition of a reencoding.

        Rows that another job adds meanwhile would have vectors of the old encoder.
        """
        return cls.kind == "reencoding"


class EvaluationSet(Table):
    """Texts that a tuned model will be tested on, and that must not be among what it learns from."""

    __tablename__ = "evaluation_sets"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    rows: Mapped[int]
    digest: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (UniqueConstraint("project_id", "name"), Index(None, "project_id", "id"))


class EvaluationItem(Table):
    """One text of an evaluation set, by its place there, from 0."""

    __tablename__ = "evaluation_items"
    set_id: Mapped[str] = mapped_column(ForeignKey("evaluation_sets.id", ondelete="CASCADE"), primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class Match(Table):
    """A record that contains a part of an evaluation item, or resembles it.

    `kind`: ngram (`start` and `end` are characters of the record's `field`; `score` is the share of the item's
    n-grams that the record has) or embedding (`score` is the cosine).
    """

    __tablename__ = "matches"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    maintenance_job_id: Mapped[str] = mapped_column(ForeignKey("maintenance_jobs.id", ondelete="CASCADE"))
    record_id: Mapped[str] = mapped_column(ForeignKey("records.id", ondelete="CASCADE"))
    set_id: Mapped[str]
    place: Mapped[int]
    kind: Mapped[str]
    score: Mapped[float]
    field: Mapped[str | None]
    start: Mapped[int | None]
    end: Mapped[int | None]
    span: Mapped[str | None]
    item_text: Mapped[str]
    __table_args__ = (
        CheckConstraint("kind IN ('ngram', 'embedding')", name="kind"),
        Index(None, "maintenance_job_id", "id"),
        Index(None, "record_id"),
    )


class NewEmbedding(Table):
    """A vector of a reencoding. When all are computed, they replace the old vectors in one transaction."""

    __tablename__ = "new_embeddings"
    maintenance_job_id: Mapped[str] = mapped_column(
        ForeignKey("maintenance_jobs.id", ondelete="CASCADE"), primary_key=True
    )
    record_id: Mapped[str] = mapped_column(ForeignKey("records.id", ondelete="CASCADE"), primary_key=True)
    embedding: Mapped[bytes] = mapped_column(LargeBinary)
