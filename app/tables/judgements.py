"""A judgement: the scores that a judge gives to existing records. An account of its own pays for the calls."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.jobs import GENERATION, LeasedJob, Table, status_check


class Judgement(Table, LeasedJob):
    """A job in which a judge scores rows that were decided on before, and rejects them if the request says so."""

    __tablename__ = "judgements"
    queue_name = GENERATION
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    teacher: Mapped[str]
    # Which records: those that matched the filter when the judgement was created. Rows that a run adds later are not
    # judged, or the judgement of a growing dataset would never end.
    filter: Mapped[dict]
    newest_record_id: Mapped[str]
    options: Mapped[dict]
    # Whether accepted rows under the thresholds are moved to the rejected ones at the end.
    reject: Mapped[bool]
    rows: Mapped[int]
    done_rows: Mapped[int] = mapped_column(default=0)
    # Judged rows by outcome: passed, unjudged, or the reason for which a run would have rejected them.
    outcomes: Mapped[dict] = mapped_column(default=dict, server_default=text("'{}'"))
    rejected: Mapped[int] = mapped_column(default=0)
    # Why the service has paused it, and when it resumes by itself.
    paused_for: Mapped[str | None]
    resume_at: Mapped[datetime | None]
    teacher_gone_since: Mapped[datetime | None]
    __table_args__ = (
        status_check(),
        Index(None, "project_id", "id"),
        Index(None, "status"),
        Index(None, "dataset_id"),
        Index(None, "account_id", unique=True),
    )


class JudgedRow(Table):
    """A record that a judgement is done with: it is not judged again when the judgement goes on."""

    __tablename__ = "judged_rows"
    judgement_id: Mapped[str] = mapped_column(ForeignKey("judgements.id", ondelete="CASCADE"), primary_key=True)
    record_id: Mapped[str] = mapped_column(ForeignKey("records.id", ondelete="CASCADE"), primary_key=True)
    outcome: Mapped[str]
    # {value, threshold} of a row under a threshold.
    detail: Mapped[dict | None] = mapped_column(JSONB(none_as_null=True))
    judged_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (Index(None, "record_id"),)
