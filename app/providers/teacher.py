"""One teacher behind the OpenAI protocol, by the real client, and what its failures mean.

The SDK's own retries are off: against a server that hangs it would buy the same answer three times
and say nothing. What may be tried again, and when, is for the caller to decide.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import httpx2
import openai
from openai import AsyncOpenAI, DefaultAioHttpClient
from openai.types.chat import ChatCompletion

from app.synth.prices import Prices, estimate
from app.synth.reply_forms import ReplyForm
from app.synth.teacher_errors import MESSAGE_LENGTH, TeacherRefused, TryAgain, meaning_of_status
from app.synth.types import Prompt, Reply, Usage

CONNECT_SECONDS = 5
MOST_REPLY_CHARACTERS = 8 * 2**20


@dataclass(frozen=True)
class Endpoint:
    """Where a teacher answers. `replies`: the form in which it gives a reply that has parts.

    `requests_per_minute`, `tokens_per_minute`: of all workers together; 0 is no limit.
    """

    name: str
    base_url: str
    model: str
    api_key: str
    prices: Prices
    in_flight: int = 32
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    timeout_seconds: float = 120
    replies: ReplyForm = "json_schema"


@dataclass(frozen=True)
class Served:
    """A reply with what the ledger keeps of it."""

    reply: Reply
    model: str
    usage_estimated: bool


class Teacher:
    """An open connection pool to one endpoint. Make it inside the event loop that uses it, and close it there."""

    def __init__(self, endpoint: Endpoint):
        self.endpoint = endpoint
        self._room = asyncio.Semaphore(endpoint.in_flight)
        self._client = AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=endpoint.api_key,
            max_retries=0,
            timeout=openai.Timeout(endpoint.timeout_seconds, connect=CONNECT_SECONDS),
            # Servers close idle connections, uvicorn after 5 s: one that is about to be closed must not be used again,
            # since a call on it may have been served or not.
            http_client=DefaultAioHttpClient(
                limits=httpx2.Limits(max_connections=1000, max_keepalive_connections=100, keepalive_expiry=3)
            ),
        )

    async def close(self) -> None:
        await self._client.close()

    def request(self, prompt: Prompt) -> dict:
        """The request body, as it is sent and as it is keyed."""
        body: dict = {
            "model": self.endpoint.model,
            "messages": prompt.messages(self.endpoint.replies),
            "temperature": prompt.temperature,
            "max_tokens": prompt.max_tokens,
        }
        if prompt.top_p is not None:
            body["top_p"] = prompt.top_p
        if prompt.seed is not None:
            body["seed"] = prompt.seed
        if prompt.schema is not None and self.endpoint.replies == "json_object":
            body["response_format"] = {"type": "json_object"}
        if prompt.schema is not None and self.endpoint.replies == "json_schema":
            schema = {key: value for key, value in prompt.schema.items() if key != "title"}
            form = {"name": prompt.schema["title"], "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        return body

    async def complete(self, prompt: Prompt) -> Served:
        """One call. Raises TeacherRefused or TryAgain; everything the server said is a Served."""
        async with self._room:
            try:
                async with asyncio.timeout(self.endpoint.timeout_seconds):
                    # The body is whole as it is: the typed method would walk through all of it once more.
                    answer = await self._client.post(
                        "/chat/completions", body=self.request(prompt), cast_to=ChatCompletion
                    )
            except TimeoutError as error:
                raise TryAgain(f"no answer in {self.endpoint.timeout_seconds:g} s", paid=None, timeout=True) from error
            except openai.APIError as error:
                found = meaning(error)
                if isinstance(found, Served):
                    return found
                raise found from error
            except (ValueError, UnicodeDecodeError) as error:
                return _unreadable(prompt.messages(), f"the answer was not JSON: {error}")
        return served_of(prompt.messages(), answer)


def served_of(messages: Sequence[dict], answer) -> Served:
    """What the ledger keeps of a completion; of anything else an unreadable reply."""
    choices = getattr(answer, "choices", None)
    if not choices or getattr(choices[0], "message", None) is None:
        return _unreadable(messages, "the answer had no choices")
    choice, message = choices[0], choices[0].message
    text = message.content if isinstance(message.content, str) else ""
    text = text[:MOST_REPLY_CHARACTERS]
    usage = _usage(answer)
    reply = Reply(
        text=text,
        finish_reason=choice.finish_reason or "stop",
        refusal=getattr(message, "refusal", None),
        usage=usage or estimate(messages, text),
        simulated=answer.system_fingerprint == "simulated",
    )
    return Served(reply, str(answer.model or ""), usage is None)


def _usage(answer) -> Usage | None:
    """The server's counts, or None when they are missing or can't be true."""
    given = getattr(answer, "usage", None)
    prompt, completion = getattr(given, "prompt_tokens", None), getattr(given, "completion_tokens", None)
    if not isinstance(prompt, int) or not isinstance(completion, int) or prompt < 0 or completion < 0:
        return None
    details = getattr(given, "prompt_tokens_details", None)
    cached = getattr(details, "cached_tokens", 0) or 0
    return Usage(prompt, min(cached, prompt), completion)


def _unreadable(messages: Sequence[dict], words: str) -> Served:
    reply = Reply(words, finish_reason="unreadable", usage=estimate(messages, ""))
    return Served(reply, "", usage_estimated=True)


def meaning(error: openai.APIError) -> TeacherRefused | TryAgain | Served:
    """What a failure of the client or the server means, in one table."""
    if isinstance(error, openai.APIConnectionError):
        before_sending = type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout", "PoolTimeout")
        words = f"no connection to the teacher: {error.__cause__ or error}"
        return TryAgain(words, paid=False if before_sending else None)
    if isinstance(error, openai.APIResponseValidationError):
        return Served(Reply("the answer did not follow the protocol", "unreadable"), "", usage_estimated=True)
    if isinstance(error, openai.APIStatusError):
        return _meaning_of_status(error)
    return TryAgain(str(error), paid=None)


def _meaning_of_status(error: openai.APIStatusError) -> TeacherRefused | TryAgain | Served:
    body = error.body if isinstance(error.body, dict) else {}
    message = str(body.get("message") or error.message)[:MESSAGE_LENGTH]
    code, parameter = str(error.code or ""), str(error.param or "")
    found = meaning_of_status(error.status_code, code, message, error.response.headers, parameter)
    return Served(found, "", usage_estimated=False) if isinstance(found, Reply) else found
