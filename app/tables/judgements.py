"""A judgement: a judge's verdicts on records that are there already, paid for by an account of its own."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.jobs import GENERATION, LeasedJob, Table, status_check


class Judgement(Table, LeasedJob):
    __tablename__ = "judgements"
    queue_name = GENERATION
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    teacher: Mapped[str]
    # Which records: those that fitted this when it was ordered, up to the newest one there was.
    filter: Mapped[dict]
    newest_record_id: Mapped[str]
    options: Mapped[dict]
    # Whether accepted rows under the thresholds are moved to the rejected ones at the end.
    reject: Mapped[bool]
    rows: Mapped[int]
    done_rows: Mapped[int] = mapped_column(default=0)
    # Judged rows by outcome: passed, unjudged, or the reason for which a run would have turned them away.
    outcomes: Mapped[dict] = mapped_column(default=dict, server_default=text("'{}'"))
    rejected: Mapped[int] = mapped_column(default=0)
    # Why it is paused when nobody asked for it, and when it goes on by itself.
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
