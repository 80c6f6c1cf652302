"""seedbed teachers check, on a teacher that is a function."""

from app.cli.teacher_check import check_teacher
from app.config import TeacherConfig
from app.persistence.db import transaction
from app.providers.profile import TeacherProfile
from app.runs.teachers import load_profile, reply_form


def test_a_check_stores_the_form_and_says_what_the_protocol_has_not(database, capsys):
    function = "tests.providers.teacher_functions:json_reply"
    teacher = TeacherConfig(name="own", protocol="callable", function=function)
    assert check_teacher(teacher)
    output = capsys.readouterr().out
    assert f"own: {function} at {function}" in output and "works  json_object" in output
    assert "none   json_schema  the protocol callable can't ask for it" in output
    assert "limit of tokens    as max_tokens" in output and "the form of replies (json_object): stop" in output
    assert "none   batch mode   the protocol callable has no remote batches" in output
    with transaction() as session:
        assert reply_form(session, teacher) == "json_object"
        profile = TeacherProfile.from_json(load_profile(session, teacher))
        assert (profile.replies, profile.honours_n, len(profile.evidence)) == ("json_object", None, 1)
        assert load_profile(session, TeacherConfig(name="own", protocol="callable", function="m:other")) == {}
