"""What the answers and failures of an OpenAI-compatible server mean."""

from collections.abc import Sequence

import aiohttp
import httpx2
import openai

from app.providers.teacher import MAX_REPLY_CHARACTERS, Served, unreadable
from app.synth.prices import estimate
from app.synth.teacher_errors import MESSAGE_LENGTH, TeacherRefused, TryAgain, meaning_of_status
from app.synth.types import Reply, Usage

# More than any model reads or writes: such a count is a mistake, and would not fit into the ledger.
MAX_TOKENS = 10**9


def served_of(messages: Sequence[dict], completion: object) -> Served:
    """Return what the ledger keeps of a completion; of anything else an unreadable reply.

    The client does not validate completions, so that any field may be missing or of another type.
    """
    choices = getattr(completion, "choices", None)
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = getattr(choice, "message", None)
    if message is None:
        return unreadable(messages, "the answer had no choices")
    text = _text(message, "content")[:MAX_REPLY_CHARACTERS]
    usage = _usage(completion)
    reply = Reply(
        text=text,
        finish_reason=_text(choice, "finish_reason") or "stop",
        refusal=_text(message, "refusal") or None,
        usage=usage or estimate(messages, text),
        simulated=_text(completion, "system_fingerprint") == "simulated",
    )
    return Served(reply, _text(completion, "model"), usage is None)


def _text(part: object, name: str) -> str:
    value = getattr(part, name, None)
    return value if isinstance(value, str) else ""


def _usage(completion: object) -> Usage | None:
    """Return the server's counts, or None when they are missing or can't be true."""
    usage = getattr(completion, "usage", None)
    prompt, completed = getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)
    if not _is_count(prompt) or not _is_count(completed):
        return None
    cached = getattr(getattr(usage, "prompt_tokens_details", None), "cached_tokens", None)
    return Usage(prompt, min(cached, prompt) if _is_count(cached) else 0, completed)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 <= value <= MAX_TOKENS


def meaning_of_error(error: openai.APIError) -> TeacherRefused | TryAgain | Served:
    """Return what a failure of the client or the server means, in one table."""
    if isinstance(error, openai.APIConnectionError):
        message = f"no connection to the teacher: {error.__cause__ or error}"
        return TryAgain(message, paid=None if _may_have_been_sent(error) else False)
    if isinstance(error, openai.APIResponseValidationError):
        return Served(Reply("the answer did not follow the protocol", "unreadable"), "", usage_estimated=True)
    if isinstance(error, openai.APIStatusError):
        return _meaning_of_status(error)
    return TryAgain(str(error), paid=None)


def _may_have_been_sent(error: openai.APIConnectionError) -> bool:
    """Return whether the request may have reached the server before the connection failed."""
    cause = error.__cause__
    origin = cause and cause.__cause__
    # The transport over aiohttp calls a connection that was lost during a call a ConnectTimeout, too.
    if isinstance(origin, aiohttp.ClientError):
        return not isinstance(origin, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    return not isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)


def _meaning_of_status(error: openai.APIStatusError) -> TeacherRefused | TryAgain | Served:
    body = error.body if isinstance(error.body, dict) else {}
    message = str(body.get("message") or error.message)[:MESSAGE_LENGTH]
    code, parameter = str(error.code or ""), str(error.param or "")
    meaning = meaning_of_status(error.status_code, code, message, error.response.headers, parameter)
    return Served(meaning, "", usage_estimated=False) if isinstance(meaning, Reply) else meaning
