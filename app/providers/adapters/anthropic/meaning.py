"""What the answers and failures of Anthropic's Messages API mean."""

from collections.abc import Sequence

import aiohttp
import anthropic
import httpx2

from app.providers.teacher import MAX_REPLY_CHARACTERS, Served, unreadable
from app.synth.prices import estimate
from app.synth.teacher_errors import MESSAGE_LENGTH, TeacherRefused, TryAgain, meaning_of_status
from app.synth.types import Reply, Usage

# More than any model reads or writes: such a count is a mistake, and would not fit into the ledger.
MAX_TOKENS = 10**9

# https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons; a classifier ended a `refusal`.
FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}

# The codes of `error.details` for an account that may not spend more. The client's package has a class for each.
SPENT_CODES = (
    "contract_spend_limit_reached",
    "enforced_spend_limit_reached",
    "linked_organization_billing_unavailable",
    "linked_organization_spend_limit_reached",
)
DISABLED_ACCOUNT_CODE = "organization_on_hold"
# These errors have no code: their type is invalid_request_error, as of any other fault of a request.
# https://github.com/anthropics/claude-code/issues/66314
NO_CREDIT = "credit balance is too low"
# https://github.com/anthropics/claude-code/issues/12186 and https://github.com/docker/docker-agent/issues/569
TOO_LONG = ("prompt is too long", "exceed context limit")


def served_of(messages: Sequence[dict], message: object) -> Served:
    """Return what the ledger keeps of an answer; of anything that is no message an unreadable reply.

    The client does not validate answers, so that any field may be missing or of another type.
    """
    content = getattr(message, "content", None)
    if not isinstance(content, list):
        return unreadable(messages, "the answer had no content")
    text, thought = (part[:MAX_REPLY_CHARACTERS] for part in text_and_thought(content))
    usage = _usage(message)
    stop_reason = _text(message, "stop_reason")
    reply = Reply(
        text=text,
        thought=thought,
        finish_reason=FINISH_REASONS.get(stop_reason, stop_reason) or "stop",
        refusal=_text(getattr(message, "stop_details", None), "explanation") or None,
        usage=usage or estimate(messages, text + thought),
    )
    return Served(reply, _text(message, "model"), usage is None)


def text_and_thought(content: Sequence[object]) -> tuple[str, str]:
    """Return the text of the answer, and that of the thinking before it.

    Redacted thinking is encrypted and has no text.
    """
    texts, thoughts = [], []
    for block in content:
        block_type = _text(block, "type")
        if block_type == "text":
            texts.append(_text(block, "text"))
        elif block_type == "thinking":
            thoughts.append(_text(block, "thinking"))
    return "".join(texts), "\n\n".join(thought for thought in thoughts if thought)


def _text(part: object, name: str) -> str:
    value = getattr(part, name, None)
    return value if isinstance(value, str) else ""


def _usage(message: object) -> Usage | None:
    """Return the server's counts, or None when they are missing or can't be true.

    `input_tokens` counts neither what was read from the cache nor what was written to it.
    """
    usage = getattr(message, "usage", None)
    fresh, completed = getattr(usage, "input_tokens", None), getattr(usage, "output_tokens", None)
    if not _is_count(fresh) or not _is_count(completed):
        return None
    cached, written = (
        count if _is_count(count) else 0
        for count in (
            getattr(usage, "cache_read_input_tokens", None),
            getattr(usage, "cache_creation_input_tokens", None),
        )
    )
    return Usage(fresh + cached + written, cached, completed)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 <= value <= MAX_TOKENS


def meaning_of_error(error: anthropic.APIError) -> TeacherRefused | TryAgain | Served:
    """Return what a failure of the client or the server means."""
    if isinstance(error, anthropic.APIConnectionError):
        message = f"no connection to the teacher: {error.__cause__ or error}"
        return TryAgain(message, paid=None if _may_have_been_sent(error) else False)
    if isinstance(error, anthropic.APIResponseValidationError):
        return Served(Reply("the answer did not follow the protocol", "unreadable"), "", usage_estimated=True)
    if isinstance(error, anthropic.APIStatusError):
        meaning = _meaning_of_status(error)
        return Served(meaning, "", usage_estimated=False) if isinstance(meaning, Reply) else meaning
    return TryAgain(str(error), paid=None)


def _may_have_been_sent(error: anthropic.APIConnectionError) -> bool:
    """Return whether the request may have reached the server before the connection failed."""
    cause = error.__cause__
    origin = cause and cause.__cause__
    # The transport over aiohttp calls a connection that was lost during a call a ConnectTimeout, too.
    if isinstance(origin, aiohttp.ClientError):
        return not isinstance(origin, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    return not isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)


def _meaning_of_status(error: anthropic.APIStatusError) -> TeacherRefused | TryAgain | Reply:
    """Read what only this protocol says, and leave the rest to the table of all protocols.

    The statuses are those of https://platform.claude.com/docs/en/api/errors.
    """
    status, message = error.status_code, (error.api_message or error.message)[:MESSAGE_LENGTH]
    if error.error_code == DISABLED_ACCOUNT_CODE:
        return TeacherRefused("credentials_refused", f"the teacher's account is disabled: {message}")
    if error.error_code in SPENT_CODES or NO_CREDIT in message.lower():
        return TeacherRefused("quota_exhausted", f"the teacher's account has no credit left: {message}")
    if status == 413 or (status == 400 and any(phrase in message for phrase in TOO_LONG)):
        return Reply(message, finish_reason="context_length")
    # The other table knows the field of OpenAI's protocol that asks for a form of reply.
    parameter = "response_format" if "output_config" in message else ""
    return meaning_of_status(status, error.error_code or "", message, error.response.headers, parameter)
