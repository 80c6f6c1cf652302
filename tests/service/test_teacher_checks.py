"""The check of a teacher through REST and a real worker."""

from tests.rest import post
from tests.waiting import until_ended


def test_a_check_is_a_job_whose_profile_is_shown_with_the_teacher(api):
    created, location = post(api, "/v1/teachers/simulated/check", 202)
    assert (created["teacher"], created["profile"]) == ("simulated", {})
    assert location == f"/v1/teacher-checks/{created['id']}"
    ended = until_ended(api, location)
    assert (ended["status"], ended["stop_reason"]) == ("succeeded", "completed")
    profile = ended["profile"]
    assert (profile["replies"], profile["max_tokens_name"]) == ("json_schema", "max_tokens")
    assert profile["usage_trusted"] is True
    assert profile["evidence"][0]["question"] == "the form of replies"
    teacher = next(item for item in api.get("/v1/teachers").json()["data"] if item["name"] == "simulated")
    assert teacher["profile"] == profile and teacher["checked_at"] >= created["created_at"]


def test_a_teacher_that_is_not_configured_has_no_check(api):
    answer = api.post("/v1/teachers/nobody/check")
    assert (answer.status_code, answer.json()["detail"]) == (404, "No teacher with the id 'nobody' in this project.")
    assert api.get("/v1/teacher-checks/chk_nothing").status_code == 404
