"""A teacher behind Anthropic's Messages API, by the client of Anthropic.

The client's own retries are off, as in the adapter of OpenAI's protocol: the caller decides what is tried again.
"""

import asyncio
import re

import anthropic
import httpx2
from anthropic import AsyncAnthropic, DefaultAioHttpClient, transform_schema
from anthropic.types import Message

from app.providers.adapters.anthropic.meaning import meaning_of_error, served_of
from app.providers.request_settings import fold_system, with_sampling
from app.providers.teacher import Endpoint, Served, unreadable
from app.synth.teacher_errors import TryAgain
from app.synth.types import Prompt

CONNECT_SECONDS = 5
# The protocol's temperature ends at 1, where that of a prompt may be 2.
MAX_TEMPERATURE = 1.0
# Claude 4.7 and later models refuse a request that has any field of sampling: "`temperature` is deprecated for this
# model." (https://github.com/The-PR-Agent/pr-agent/issues/2456)
FIRST_VERSION_WITHOUT_SAMPLING = (4, 7)
_CLAUDE_VERSION = re.compile(r"claude-(?:[a-z]+-)?(\d+)(?:[-.](\d{1,2})(?!\d))?")


class AnthropicTeacher:
    """An open connection pool to one endpoint. It is opened, used and closed in one event loop."""

    def __init__(self, endpoint: Endpoint):
        self.endpoint = endpoint
        self._places = asyncio.Semaphore(endpoint.in_flight)
        self._client = AsyncAnthropic(
            base_url=endpoint.base_url,
            api_key=endpoint.api_key,
            max_retries=0,
            timeout=anthropic.Timeout(endpoint.timeout_seconds, connect=CONNECT_SECONDS),
            # Servers close idle connections: one that is about to be closed must not be used again, since a call on it
            # may have been served or not.
            http_client=DefaultAioHttpClient(
                limits=httpx2.Limits(max_connections=1000, max_keepalive_connections=100, keepalive_expiry=3)
            ),
            default_headers=endpoint.settings.extra_headers,
            default_query=endpoint.settings.query,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def request(self, prompt: Prompt) -> dict:
        """Return the request body. The protocol has no seed."""
        settings = self.endpoint.settings
        system, *messages = prompt.messages(self.endpoint.replies)
        body: dict = {"model": self.endpoint.model, "max_tokens": prompt.max_tokens, "messages": messages}
        if settings.system_turn == "folded":
            body["messages"] = fold_system([system, *messages])
        elif system["content"]:
            body["system"] = system["content"]
        body |= sampling_fields(self.endpoint.model, with_sampling(prompt, settings))
        if settings.stop:
            body["stop_sequences"] = list(settings.stop)
        if prompt.schema is not None and self.endpoint.replies == "json_schema":
            # Structured outputs, and not a tool that the model is forced to call: the answer stays a text, a forced
            # tool can't be combined with thinking, and `transform_schema` writes the bounds that the API refuses
            # (such as maxItems) into descriptions.
            # https://platform.claude.com/docs/en/build-with-claude/structured-outputs
            body["output_config"] = {"format": {"type": "json_schema", "schema": transform_schema(prompt.schema)}}
        return settings.without_dropped_fields(body)

    async def complete(self, prompt: Prompt) -> Served:
        """Make one call; everything the server said with a status of success is a Served."""
        async with self._places:
            try:
                async with asyncio.timeout(self.endpoint.timeout_seconds):
                    # `messages.create` would refuse the fields of sampling, which older models accept.
                    answer = await self._client.post("/v1/messages", body=self.request(prompt), cast_to=Message)
            except TimeoutError as error:
                raise TryAgain(f"no answer in {self.endpoint.timeout_seconds:g} s", paid=None, timeout=True) from error
            except anthropic.APIError as error:
                meaning = meaning_of_error(error)
                if isinstance(meaning, Served):
                    return meaning
                raise meaning from error
            except (ValueError, RecursionError) as error:
                return unreadable(prompt.messages(), f"the answer was not JSON: {error}")
        return served_of(prompt.messages(), answer)


def sampling_fields(model: str, prompt: Prompt) -> dict:
    """Return temperature or top_p, or nothing for a model that refuses both.

    Claude 4.1 to 4.6 refuse a request with both (https://github.com/BerriAI/litellm/issues/15097); `top_p` goes first,
    since a prompt has a temperature always and a top_p only on purpose.
    """
    if "claude" in model:
        version = _CLAUDE_VERSION.search(model)
        # A name without a version is a preview of a new model. A request without these fields is always accepted.
        if version is None or (int(version[1]), int(version[2] or 0)) >= FIRST_VERSION_WITHOUT_SAMPLING:
            return {}
    if prompt.top_p is not None:
        return {"top_p": prompt.top_p}
    return {"temperature": min(prompt.temperature, MAX_TEMPERATURE)}
