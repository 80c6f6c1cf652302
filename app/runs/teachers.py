"""How each teacher is to be asked: as the operator says, or as a check has found out."""

from sqlalchemy import func
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
    check = last_check(session, teacher)
    return UNCHECKED if check is None else check.replies


def last_check(session: Session, teacher: TeacherConfig) -> TeacherCheck | None:
    """Return the last check of this teacher at this address with this model; None where there was none."""
    check = session.get(TeacherCheck, teacher.name)
    is_same = check is not None and (check.base_url, check.model) == (teacher.address, teacher.model)
    return check if is_same else None


def load_profile(session: Session, teacher: TeacherConfig) -> dict:
    """Return what the last check has learnt, as JSON values; {} where there was none."""
    check = last_check(session, teacher)
    return {} if check is None else check.profile


def keep(session: Session, teacher: TeacherConfig, replies: ReplyForm, profile: dict) -> None:
    """Store the result of a check in place of the last one."""
    values = {"base_url": teacher.address, "model": teacher.model, "replies": replies, "profile": profile}
    new_check = insert(TeacherCheck).values(name=teacher.name, **values)
    changed = values | {"checked_at": func.now()}
    session.execute(new_check.on_conflict_do_update(index_elements=["name"], set_=changed))
