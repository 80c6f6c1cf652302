"""What the failure of a teacher's call means, whatever client made it: one table for the service and for a notebook."""

import random
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from app.synth.teacher_faults import TeacherFault, rule_of
from app.synth.types import Reply

MAX_TRIES, MAX_THROTTLED_TRIES, MAX_UNCLASSIFIED_TRIES = 6, 60, 3
# Seconds. A server may ask for a longer delay than the doubling reaches; two minutes bound a wrong header.
FIRST_DELAY, MAX_DELAY, MAX_SERVER_DELAY = 0.5, 60.0, 120.0
MESSAGE_LENGTH = 500


class TeacherRefused(Exception):
    """No call of this kind can succeed: wrong credentials, no credit, no such model, a request not understood.

    `is_certain` is False for a refusal that the table of faults does not know: it may concern this prompt alone.
    `parameter` is the request's parameter that the server names; "" where it names none.
    """

    def __init__(self, stop_reason: str, message: str, is_certain: bool = True, parameter: str = ""):
        super().__init__(message)
        self.stop_reason, self.is_certain, self.parameter = stop_reason, is_certain, parameter


class TryAgain(Exception):
    """The call failed and may succeed later. `after`: the seconds that the server asked to wait, if it did.

    `paid` is None when the request may have been served and billed without our seeing the answer. `classified` is
    False for a failure that says nothing of its kind: it is tried again a few times only.
    """

    def __init__(
        self,
        message: str,
        after: float | None = None,
        paid: bool | None = False,
        throttled: bool = False,
        timeout: bool = False,
        classified: bool = True,
    ):
        super().__init__(message)
        self.after, self.paid, self.throttled, self.timeout = after, paid, throttled, timeout
        self.classified = classified


Meaning = TeacherRefused | TryAgain | Reply


def meaning_of_status(status: int, code: str, message: str, headers: Mapping[str, str], parameter: str = "") -> Meaning:
    """Return what an HTTP answer that is no success means, by the table of `teacher_faults`.

    A fault of the prompt is a reply that says so: `context_length` or `content_filter`.

    Args:
        status: The HTTP status.
        code: The code or type of the error in the body; "" where it has none.
        message: The server's message.
        headers: The headers of the answer, by names in lower case.
        parameter: The request's parameter that the server complains about; "" where it names none.
    """
    return meaning_of_fault(TeacherFault(status, code, message, parameter), headers)


def meaning_of_fault(fault: TeacherFault, headers: Mapping[str, str] = MappingProxyType({})) -> Meaning:
    """Return what a fault means, by the row of the table that fits it. The headers may ask for a wait."""
    rule = rule_of(fault)
    message = f"{rule.message} ({fault.status}): {fault.message}"[:MESSAGE_LENGTH]
    if rule.scope == "prompt":
        finish_reason = "context_length" if rule.reason == "prompt_too_long" else "content_filter"
        return Reply(message, finish_reason=finish_reason)
    if rule.scope == "call":
        return TryAgain(message, after=retry_after(headers), throttled=rule.throttled)
    if "response_format" in fault.message or "response_format" in fault.parameter:
        message += " (run `seedbed teachers check` to find the form of reply that it can give)"
    return TeacherRefused(rule.reason, message, is_certain=rule.scope == "teacher", parameter=fault.parameter)


def meaning_of_exception(error: Exception) -> Meaning:
    """Return what an exception of any client means, by its attributes: status, code, and the headers of its response.

    Timeouts and lost connections may be tried again; so may anything else, but fewer times.
    """
    if isinstance(error, TeacherRefused | TryAgain):
        return error
    message = _message(error)
    status = _status(error)
    if status is not None:
        code = getattr(error, "code", None)
        code = "" if code is None or code == status else str(code)
        return meaning_of_status(status, code, message, _headers(error), str(getattr(error, "param", None) or ""))
    name = type(error).__name__
    if isinstance(error, TimeoutError) or "Timeout" in name:
        return TryAgain(f"no answer in time: {message}", paid=None, timeout=True)
    if isinstance(error, ConnectionError) or "Connect" in name:
        return TryAgain(f"no connection to the teacher: {message}", paid=None)
    return TryAgain(message if message == name else f"{name}: {message}", paid=None, classified=False)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the server asked to wait, or until a used-up limit is reset; 120 at most.

    Args:
        headers: of the answer, by names in lower case.

    Returns:
        Seconds; None when the server asked for nothing.
    """
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return min(MAX_SERVER_DELAY, max(0.0, float(headers[name]) * scale))
        except (KeyError, ValueError):
            continue
    resets = [
        _seconds(headers.get(f"x-ratelimit-reset-{what}", ""))
        for what in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{what}") == "0"
    ]
    waits = [seconds for seconds in resets if seconds is not None]
    return min(MAX_SERVER_DELAY, max(waits)) if waits else None


def retry_delay(failures: int, server_delay: float | None) -> float:
    """Return the seconds until the next try.

    Args:
        failures: tries that failed so far.
        server_delay: seconds that the server asked for, or None.

    Returns:
        The server's delay and up to a tenth more, or full jitter under a bound that doubles with each failure.
    """
    # Jitter spreads the calls of many workers that the server refused in the same moment.
    if server_delay is not None:
        return server_delay + random.uniform(0, 0.25 + 0.1 * server_delay)
    return random.uniform(0, min(MAX_DELAY, FIRST_DELAY * 2**failures))


def tries_are_used_up(failures: int, throttled: int, last: TryAgain) -> bool:
    """Return whether a call is given up.

    Args:
        failures: tries that failed, without those that were throttled.
        throttled: tries that the server refused for its rate limit, of which more are allowed.
        last: the error of the last try.
    """
    limit = MAX_TRIES if last.classified else MAX_UNCLASSIFIED_TRIES
    return failures >= limit or throttled >= MAX_THROTTLED_TRIES


def _status(error: Exception) -> int | None:
    """Return the HTTP status: `status_code` of openai and anthropic, `status` of aiohttp, `code` of urllib."""
    response = getattr(error, "response", None)
    holders = ((error, "status_code"), (response, "status_code"), (error, "status"), (error, "code"))
    for holder, name in holders:
        value = getattr(holder, name, None)
        if isinstance(value, int) and 400 <= value <= 599:
            return value
    return None


def _headers(error: Exception) -> dict[str, str]:
    response = getattr(error, "response", None)
    headers: Any = getattr(response, "headers", None) or getattr(error, "headers", None) or {}
    return {str(name).lower(): str(value) for name, value in headers.items()}


def _message(error: Exception) -> str:
    body = getattr(error, "body", None)
    body_message = body.get("message") if isinstance(body, dict) else None
    text = str(body_message or getattr(error, "message", None) or error)
    return (text if text else type(error).__name__)[:MESSAGE_LENGTH]


def _seconds(duration: str) -> float | None:
    """Return the seconds of a duration such as 1m30s, 6.5s or 20ms; None for another text."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        return None
    return sum(float(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit] for number, unit in parts)
