"""The abilities of each teacher, as the last `seedbed teachers check` measured them."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.jobs import GENERATION, LeasedJob, Table, status_check


class TeacherCheck(Table):
    """What the last check of a teacher measured, at this address and with this model only.

    `replies`: the best form of reply that it gave. `profile`: all that the check has learnt.
    """

    __tablename__ = "teacher_checks"
    name: Mapped[str] = mapped_column(primary_key=True)
    base_url: Mapped[str]
    model: Mapped[str]
    replies: Mapped[str]
    checked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    profile: Mapped[dict] = mapped_column(default=dict, server_default="{}")


class TeacherCheckJob(Table, LeasedJob):
    """A check of a teacher by the generation worker. `profile`: what it has learnt, {} until then."""

    __tablename__ = "teacher_check_jobs"
    queue_name = GENERATION
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    teacher: Mapped[str]
    profile: Mapped[dict] = mapped_column(default=dict)
    __table_args__ = (status_check(), Index(None, "project_id", "id"))
