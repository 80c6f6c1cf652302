"""A teacher behind the OpenAI protocol, by the client of OpenAI.

The client's own retries are off: against a server that hangs it would buy the same answer three times and say nothing.
What may be tried again, and when, is for the caller to decide.
"""

import asyncio

import httpx2
import openai
from openai import AsyncOpenAI, DefaultAioHttpClient
from openai.types.chat import ChatCompletion

from app.providers.adapters.openai.meaning import error_in_success, meaning_of_error, served_of
from app.providers.adapters.openai.streams import completion_of_stream
from app.providers.request_settings import fold_system, with_sampling
from app.providers.teacher import Endpoint, Served, unreadable
from app.synth.teacher_errors import TryAgain
from app.synth.types import Prompt, Reply

CONNECT_SECONDS = 5


class OpenAITeacher:
    """An open connection pool to one endpoint. It is opened, used and closed in one event loop."""

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
            default_headers=endpoint.settings.extra_headers,
            default_query=endpoint.settings.query,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def request(self, prompt: Prompt) -> dict:
        """The request body, as it is sent and as it is keyed."""
        settings, messages = self.endpoint.settings, prompt.messages(self.endpoint.replies)
        prompt = with_sampling(prompt, settings)
        body: dict = {
            "model": self.endpoint.model,
            "messages": fold_system(messages) if settings.system_turn == "folded" else messages,
            "temperature": prompt.temperature,
            settings.max_tokens_name: prompt.max_tokens,
        }
        if prompt.top_p is not None:
            body["top_p"] = prompt.top_p
        if prompt.seed is not None:
            body["seed"] = prompt.seed
        if prompt.presence_penalty is not None:
            body["presence_penalty"] = prompt.presence_penalty
        if "frequency_penalty" in settings.sampling:
            body["frequency_penalty"] = settings.sampling["frequency_penalty"]
        if settings.stop:
            body["stop"] = list(settings.stop)
        if settings.streams:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if prompt.schema is not None and self.endpoint.replies == "json_object":
            body["response_format"] = {"type": "json_object"}
        if prompt.schema is not None and self.endpoint.replies == "json_schema":
            schema = {key: value for key, value in prompt.schema.items() if key != "title"}
            form = {"name": prompt.schema["title"], "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        return settings.without_dropped_fields(body)

    async def complete(self, prompt: Prompt) -> Served:
        """Make one call; everything the server said with a status of success is a Served."""
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
                meaning = meaning_of_error(error)
                if isinstance(meaning, Served):
                    return meaning
                raise meaning from error
            except (ValueError, RecursionError) as error:
                return unreadable(prompt.messages(), f"the answer was not JSON: {error}")
        # The client returns a stream of events as it came, also that of a server that was not asked for a stream.
        answer = completion_of_stream(answer) or answer
        failure = error_in_success(answer)
        if isinstance(failure, Reply):
            return Served(failure, "", usage_estimated=False)
        if failure is not None:
            raise failure
        return served_of(prompt.messages(), answer)
