"""The form of replies that each teacher is asked for, and the last check of each teacher."""

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.config import TeacherConfig
from app.synth.reply_forms import ReplyForm
from app.tables.teachers import TeacherCheck

UNCHECKED: ReplyForm = "json_schema"


def reply_form(session: Session, teacher: TeacherConfig) -> ReplyForm:
    """Return the configured form of replies; for `auto` the result of the last check.

    Args:
        session: the transaction.
        teacher: the configured teacher.
    """
    if teacher.replies != "auto":
        return teacher.replies
    check = last_check(session, teacher)
    return UNCHECKED if check is None else check.replies


def last_check(session: Session, teacher: TeacherConfig) -> TeacherCheck | None:
    """Return the last check of this teacher at this address with this model; None where there was none."""
    # Another address or model may reply in another form, so a check of the former one says nothing.
    check = session.get(TeacherCheck, teacher.name)
    is_same = check is not None and (check.base_url, check.model) == (teacher.address, teacher.model)
    return check if is_same else None


def load_profile(session: Session, teacher: TeacherConfig) -> dict:
    """Return what the last check has learnt, as JSON values; {} where there was none."""
    check = last_check(session, teacher)
    return {} if check is None else check.profile


def store_check(session: Session, teacher: TeacherConfig, replies: ReplyForm, profile: dict) -> None:
    """Store the result of a check. It replaces the result of the last check of this teacher.

    Args:
        session: the transaction.
        teacher: the teacher that was checked.
        replies: the form of replies that it can give.
        profile: all results of the check, as JSON values.
    """
    values = {"base_url": teacher.address, "model": teacher.model, "replies": replies, "profile": profile}
    new_check = insert(TeacherCheck).values(name=teacher.name, **values)
    changed = values | {"checked_at": func.now()}
    session.execute(new_check.on_conflict_do_update(index_elements=["name"], set_=changed))
