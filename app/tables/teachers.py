"""The abilities of each teacher, as the last `seedbed teachers check` measured them."""

from datetime import datetime

from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.jobs import Table


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
