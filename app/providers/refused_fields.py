"""Which field of a request a teacher refuses, and how requests are written without it."""

import re
from collections.abc import Mapping
from dataclasses import replace

from app.providers.request_settings import RequestSettings
from app.synth.teacher_errors import TeacherRefused

_REFUSALS = ("request_refused", "model_unknown")
# The message says that the field itself is wrong, and not the size of its value.
_NOT_SUPPORTED = re.compile(
    r"unsupported|(not|n't|only) support|not (be )?(supported|allowed|permitted|recognized|enabled|available|a valid)|"
    r"unrecognized|unrecognised|unknown|unexpected|extra (inputs|fields)|deprecated|invalid (parameter|argument|field)|"
    r"only the default|no such (parameter|field)",
    re.IGNORECASE,
)
_SYSTEM = re.compile(
    r"(system|developer)[ _-]*(role|message|prompt|instruction|turn)s?|role.{0,20}\bsystem\b|roles must alternate|"
    r"only user and assistant roles",
    re.IGNORECASE,
)
_STREAM = re.compile(r"\bstream(ing|ed)?\b", re.IGNORECASE)
_STREAM_IS_NEEDED = re.compile(r"\bonly\b|\benable\b|\brequire[sd]?\b|\bmust\b|non-stream", re.IGNORECASE)
# Without these there is no request, or another form of reply is needed.
_NEEDED = {"model", "messages", "response_format", "output_config", "stream", "max_tokens", "system"}
_MAX_TOKENS_NAMES = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}


def without_refused_field(
    settings: RequestSettings, refusal: TeacherRefused, request: Mapping[str, object]
) -> tuple[RequestSettings, str] | None:
    """Return the settings of requests that the teacher may take, and what was changed, for people.

    Args:
        settings: The settings by which the request was written.
        refusal: The answer of the teacher.
        request: The request that was refused.

    Returns:
        None when the refusal names no field of ours, or one without which no request can be written.
    """
    message = str(refusal)
    if refusal.stop_reason not in _REFUSALS:
        return None
    names = [name for name in request if name not in settings.extra_body and _is_named(name, refusal)]
    for name in _MAX_TOKENS_NAMES:
        other = _MAX_TOKENS_NAMES[name]
        if name in names and name == settings.max_tokens_name and _NOT_SUPPORTED.search(message):
            return replace(settings, max_tokens_name=other), f"{other} in place of {name}"
    if "stream_options" in names:
        return _dropping(settings, "stream_options")
    for name in names:
        if name not in _NEEDED | set(_MAX_TOKENS_NAMES):
            return _dropping(settings, name)
    if settings.system_turn == "own" and _SYSTEM.search(message):
        return replace(settings, system_turn="folded"), "the system text before that of the user"
    if not settings.streams and _STREAM.search(message) and _STREAM_IS_NEEDED.search(message):
        return replace(settings, streams=True), "a reply by a stream"
    return None


def _is_named(name: str, refusal: TeacherRefused) -> bool:
    """Return whether the refusal is about the field of this name, and not about a value that it quotes."""
    if refusal.parameter:
        return refusal.parameter.split(".")[0] == name
    message = str(refusal)
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", message) is not None and bool(
        _NOT_SUPPORTED.search(message)
    )


def _dropping(settings: RequestSettings, name: str) -> tuple[RequestSettings, str]:
    return replace(settings, drops=(*settings.drops, name)), f"no {name}"
