"""How each teacher is to be asked: as the operator says, or as a check has found out."""

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.config import TeacherConfig
from app.synth.reply_forms import ReplyForm
from app.tables.teachers import TeacherCheck

UNCHECKED: ReplyForm = "json_schema"


def reply_form(session: Session, teacher: TeacherConfig) -> ReplyForm:
    """The configured form; for `auto` the one that was found at this address with this model."""
    if teacher.replies != "auto":
        return teacher.replies
    stored_form = select(TeacherCheck.replies).where(
        TeacherCheck.name == teacher.name,
        TeacherCheck.base_url == teacher.address,
        TeacherCheck.model == teacher.model,
    )
    return session.scalar(stored_form) or UNCHECKED


def keep(session: Session, teacher: TeacherConfig, replies: ReplyForm) -> None:
    values = {"base_url": teacher.address, "model": teacher.model, "replies": replies}
    new_check = insert(TeacherCheck).values(name=teacher.name, **values)
    changed = values | {"checked_at": func.now()}
    session.execute(new_check.on_conflict_do_update(index_elements=["name"], set_=changed))
