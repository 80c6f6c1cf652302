"""The table of faults, case by case: what servers answer, and what it concerns."""

import pytest

from app.synth.teacher_errors import TeacherRefused, TryAgain, meaning_of_fault
from app.synth.teacher_faults import TeacherFault, fault_in_body, rule_of
from app.synth.types import Reply

# (status, code, message) as servers send them; the scope and the reason that the table gives.
CASES = [
    # OpenAI and Azure: a content filter is a 400.
    (
        (400, "content_filter", "The response was filtered due to the prompt triggering Azure OpenAI's policy"),
        "moderated",
    ),
    ((400, "content_policy_violation", "Your request was rejected by our safety system"), "moderated"),
    (
        (400, "invalid_prompt", "Invalid prompt: your prompt was flagged as potentially violating our usage policy"),
        "moderated",
    ),
    ((403, "", "The input was flagged by our moderation service"), "moderated"),
    ((400, "data_inspection_failed", "Input data may contain inappropriate content."), "moderated"),
    ((400, "1301", "The content may be sensitive"), "moderated"),
    ((500, "content_filter", "filtered"), "moderated"),
    # A prompt that is too long has a code, or a message alone.
    ((400, "context_length_exceeded", "too long"), "prompt_too_long"),
    (
        (400, "", "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens"),
        "prompt_too_long",
    ),
    ((400, "exceed_context_size_error", "the request exceeds the available context size"), "prompt_too_long"),
    ((400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"), "prompt_too_long"),
    ((413, "", "Payload Too Large"), "prompt_too_long"),
    (
        (422, "", "Input validation error: `inputs` must have less than 4096 tokens. Given: 5000"),
        "prompt_too_long",
    ),
    # No credit.
    ((429, "insufficient_quota", "You exceeded your current quota"), "quota_exhausted"),
    ((402, "", "Insufficient credits"), "quota_exhausted"),
    ((400, "invalid_request_error", "Your credit balance is too low to access the API"), "quota_exhausted"),
    ((429, "", "You exceeded your current quota, please check your plan"), "quota_exhausted"),
    # Asked to slow down.
    ((429, "rate_limit_exceeded", "Rate limit reached"), "throttled"),
    ((429, "", "Too Many Requests"), "throttled"),
    ((503, "", "Service Unavailable"), "throttled"),
    ((529, "overloaded_error", "Overloaded"), "throttled"),
    ((498, "", "Flex tier capacity exceeded"), "throttled"),
    ((403, "", "Rate limit exceeded: free-models-per-min"), "throttled"),
    # The call failed.
    ((500, "", "Internal Server Error"), "failed"),
    ((502, "", "Bad Gateway"), "failed"),
    ((504, "", "upstream request timeout"), "failed"),
    ((408, "", "Request Timeout"), "failed"),
    ((404, "", "model is loading"), "loading"),
    # No call can succeed.
    ((401, "invalid_api_key", "Incorrect API key provided"), "credentials_refused"),
    ((403, "", "Your key has no access to this project"), "credentials_refused"),
    ((400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."), "credentials_refused"),
    ((404, "model_not_found", "The model `x` does not exist"), "model_unknown"),
    ((404, "", 'model "x" not found, try pulling it first'), "model_unknown"),
    ((400, "", "x is not a valid model ID"), "model_unknown"),
    # The table does not know these.
    ((400, "bad_schema", "Invalid schema for response_format"), "request_refused"),
    ((422, "", "top_k: extra inputs are not permitted"), "request_refused"),
    ((418, "", "I'm a teapot"), "request_refused"),
]
SCOPES = {
    **dict.fromkeys(("moderated", "prompt_too_long"), "prompt"),
    **dict.fromkeys(("throttled", "failed", "loading"), "call"),
    **dict.fromkeys(("quota_exhausted", "credentials_refused", "model_unknown"), "teacher"),
    "request_refused": "unknown",
}


@pytest.mark.parametrize(("answer", "reason"), CASES, ids=lambda value: str(value)[:60])
def test_each_answer_has_its_reason_and_its_scope(answer, reason):
    rule = rule_of(TeacherFault(*answer))
    assert (rule.reason, rule.scope) == (reason, SCOPES[reason])


def test_the_scope_says_what_becomes_of_the_call():
    moderated = meaning_of_fault(TeacherFault(400, "content_filter", "no"))
    assert isinstance(moderated, Reply) and moderated.finish_reason == "content_filter"
    throttled = meaning_of_fault(TeacherFault(429), {"retry-after": "7"})
    assert isinstance(throttled, TryAgain) and (throttled.after, throttled.throttled) == (7.0, True)
    refused, unknown = (meaning_of_fault(TeacherFault(status)) for status in (401, 418))
    assert isinstance(refused, TeacherRefused) and refused.is_certain
    assert isinstance(unknown, TeacherRefused) and not unknown.is_certain


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ({"error": {"code": 401, "message": "No auth"}}, TeacherFault(401, "", "No auth")),
        ({"error": {"code": "429", "message": "slow"}}, TeacherFault(429, "", "slow")),
        ({"error": {"code": 502, "message": "bad gateway"}}, TeacherFault(502, "", "bad gateway")),
        ({"error": {"type": "overloaded_error", "message": "busy"}}, TeacherFault(500, "overloaded_error", "busy")),
        ({"error": "model not loaded"}, TeacherFault(500, "", "model not loaded")),
        (
            {"error": {"code": 403, "message": "flagged", "metadata": {"reasons": ["violence"]}}},
            TeacherFault(403, "moderation_blocked", "flagged"),
        ),
        (
            {"error": {"code": 400, "message": "Provider returned error", "metadata": {"raw": "context length"}}},
            TeacherFault(400, "", "Provider returned error: context length"),
        ),
        ({"error": None, "choices": []}, None),
        ({"choices": []}, None),
        ("text", None),
    ],
)
def test_an_error_in_the_body_of_a_success_is_a_fault(body, fault):
    assert fault_in_body(body) == fault
