"""What the exceptions of any client mean, by their attributes."""

import urllib.error
from email.message import Message

import pytest

from app.synth.teacher_errors import TeacherRefused, TryAgain, meaning_of_exception, retry_after, retry_delay
from app.synth.types import Reply


def with_attributes(name: str = "ApiError", **attributes) -> Exception:
    error = type(name, (Exception,), {})("a message")
    for attribute, value in attributes.items():
        setattr(error, attribute, value)
    return error


def url_error(status: int, headers: dict) -> urllib.error.HTTPError:
    message = Message()
    for name, value in headers.items():
        message[name] = value
    return urllib.error.HTTPError("http://teacher", status, "a message", message, None)


def response(status: int, headers: dict):
    return type("Response", (), {"status_code": status, "headers": headers})()


@pytest.mark.parametrize(
    ("error", "stop_reason"),
    [
        (with_attributes(status_code=401), "credentials_refused"),
        (with_attributes(status=403), "credentials_refused"),
        (url_error(402, {}), "quota_exhausted"),
        (with_attributes(status_code=429, code="insufficient_quota"), "quota_exhausted"),
        (with_attributes(response=response(404, {})), "model_unknown"),
        (with_attributes(status_code=400), "request_refused"),
        (TeacherRefused("model_unknown", "a message"), "model_unknown"),
    ],
)
def test_what_no_try_will_change(error, stop_reason):
    meaning = meaning_of_exception(error)
    assert isinstance(meaning, TeacherRefused) and meaning.stop_reason == stop_reason and "a message" in str(meaning)


@pytest.mark.parametrize(
    ("error", "after", "paid", "throttled"),
    [
        (with_attributes(status_code=429, response=response(429, {"Retry-After": "3"})), 3.0, False, True),
        (url_error(503, {"Retry-After": "4"}), 4.0, False, True),
        (with_attributes(status=500), None, False, False),
        (with_attributes(status_code=529), None, False, True),
        (TimeoutError("a message"), None, None, False),
        (with_attributes("ReadTimeout"), None, None, False),
        (ConnectionResetError("a message"), None, None, False),
        (with_attributes("APIConnectionError"), None, None, False),
        (ValueError("a message"), None, None, False),
    ],
)
def test_what_is_tried_again(error, after, paid, throttled):
    meaning = meaning_of_exception(error)
    assert isinstance(meaning, TryAgain) and "a message" in str(meaning)
    assert (meaning.after, meaning.paid, meaning.throttled) == (after, paid, throttled)
    assert meaning.classified == (not isinstance(error, ValueError))


def test_a_prompt_that_is_too_long_is_a_reply():
    meaning = meaning_of_exception(with_attributes(status_code=400, code="context_length_exceeded"))
    assert isinstance(meaning, Reply) and meaning.finish_reason == "context_length"


def test_an_exception_without_words_is_told_by_its_name():
    assert str(meaning_of_exception(KeyError())) == "KeyError"


def test_delays_double_up_to_a_minute_and_follow_the_servers_wish():
    assert all(retry_delay(n, None) <= min(60, 0.5 * 2**n) for n in range(12))
    assert 5 <= retry_delay(1, 5.0) <= 5.75


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m2.5s"}, 62.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "20s"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "soon"}, None),
        ({"retry-after": "3", "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "9s"}, 3),
        ({"retry-after-ms": "250"}, 0.25),
    ],
)
def test_what_the_headers_of_a_429_ask_for(headers, seconds):
    assert retry_after(headers) == seconds
