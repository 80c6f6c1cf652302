"""A field of a request that a teacher refuses during a run: stored in its profile, and reported in one event."""

from app import config
from app.jobs import event_log
from app.persistence.db import transaction
from app.providers.profile import TeacherProfile
from app.providers.request_settings import RequestSettings
from app.runs import store, teachers


def store_new_settings(run_id: str, teacher_name: str, settings: RequestSettings, change: str) -> None:
    """Store how requests to the teacher are written from now on, and report it to the run.

    Args:
        run_id: The run during which the teacher refused the field.
        teacher_name: The teacher of the configuration.
        settings: The settings without the refused field.
        change: What was changed, for people.
    """
    teacher = config.teachers()[teacher_name]
    with transaction() as session:
        profile = TeacherProfile.from_json(teachers.load_profile(session, teacher)).with_settings(settings)
        teachers.store_check(session, teacher, teachers.reply_form(session, teacher), profile.to_json())
        run = store.locked_run(session, run_id)
        if run is not None:
            event_log.emit(session, run, "teacher_profile", teacher=teacher_name, change=change)
