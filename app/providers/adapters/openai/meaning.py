"""What the answers and failures of an OpenAI-compatible server mean."""

from collections.abc import Sequence
from dataclasses import replace

import aiohttp
import httpx2
import openai

from app.providers.adapters.openai.message_parts import field_of, text_and_thought, tool_call_arguments
from app.providers.teacher import MAX_REPLY_CHARACTERS, Served, unreadable
from app.synth.prices import estimate
from app.synth.teacher_errors import TeacherRefused, TryAgain, meaning_of_fault
from app.synth.teacher_faults import TeacherFault, fault_in_body
from app.synth.types import Reply, Usage

# More than any model reads or writes: such a count is a mistake, and would not fit into the ledger.
MAX_TOKENS = 10**9


def error_in_success(completion: object) -> TeacherRefused | TryAgain | Reply | None:
    """Return what an error means that came with a status of success; None where there is none.

    Aggregators answer 200 and write the error of the server behind them into the body, or into the choice.
    """
    choices = field_of(completion, "choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    for holder in (completion, choice):
        error = field_of(holder, "error")
        fault = fault_in_body({"error": error}) if error else None
        if fault is not None:
            meaning = meaning_of_fault(fault)
            if isinstance(meaning, TryAgain) and holder is choice:
                # It broke off while it answered, which may be billed.
                meaning.paid = None
            return meaning
    return None


def served_of(messages: Sequence[dict], completion: object) -> Served:
    """Return what the ledger keeps of a completion; of anything else an unreadable reply.

    The client does not validate completions, so that any field may be missing or of another type.
    """
    choices = field_of(completion, "choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = field_of(choice, "message")
    if message is None:
        return unreadable(messages, "the answer had no choices")
    text, thought = (part[:MAX_REPLY_CHARACTERS] for part in text_and_thought(message))
    repairs = ()
    if not text.strip() and (arguments := tool_call_arguments(message)[:MAX_REPLY_CHARACTERS]):
        text, repairs = arguments, ("tool_call",)
    usage = _usage(completion)
    reply = Reply(
        text=text,
        thought=thought,
        repairs=repairs,
        finish_reason=_text(choice, "finish_reason") or "stop",
        refusal=_text(message, "refusal") or None,
        usage=usage or estimate(messages, text + thought),
        simulated=_text(completion, "system_fingerprint") == "simulated",
    )
    has_logprobs = bool(field_of(choice, "logprobs"))
    return Served(reply, _text(completion, "model"), usage is None, len(choices), has_logprobs)


def _text(part: object, name: str) -> str:
    value = field_of(part, name)
    return value if isinstance(value, str) else ""


def _usage(completion: object) -> Usage | None:
    """Return the server's counts, or None when they are missing or can't be true."""
    usage = field_of(completion, "usage")
    prompt, completed = field_of(usage, "prompt_tokens"), field_of(usage, "completion_tokens")
    # A server that reports zeros does not count: every reply costs something.
    if not _is_count(prompt) or not _is_count(completed) or not prompt + completed:
        return None
    cached = _detail(usage, "prompt_tokens_details", "cached_tokens")
    thought = _detail(usage, "completion_tokens_details", "reasoning_tokens")
    if field_of(usage, "total_tokens") == prompt + completed + thought:
        # Some servers (xAI, Gemini) bill the thought and do not count it among the completion's tokens.
        completed += thought
    return Usage(prompt, min(cached, prompt), completed, min(thought, completed))


def _detail(usage: object, group: str, name: str) -> int:
    """Return a count among the details of the usage, 0 where the server gives none."""
    details = field_of(usage, group)
    count = details.get(name) if isinstance(details, dict) else getattr(details, name, None)
    return count if _is_count(count) else 0


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
    # The client takes the body's `error` out of it; a server that has none wrote its message at the top.
    body = error.body if isinstance(error.body, dict) else {}
    fault = fault_in_body({"error": body} if body else None, error.status_code)
    if fault is None:
        fault = TeacherFault(error.status_code, str(error.code or ""), error.message, str(error.param or ""))
    # The status of the answer outranks a number in its body.
    meaning = meaning_of_fault(replace(fault, status=error.status_code), error.response.headers)
    return Served(meaning, "", usage_estimated=False) if isinstance(meaning, Reply) else meaning
