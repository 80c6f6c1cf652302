"""The asynchronous side of a local model: requests, places, timeouts, and what a failure means."""

import asyncio
from dataclasses import asdict

from app.providers.adapters.local.engine import Engine, engine_of
from app.providers.adapters.local.generation import Call
from app.providers.teacher import MAX_REPLY_CHARACTERS, Endpoint, Served
from app.synth.teacher_errors import TeacherRefused, TryAgain
from app.synth.types import Prompt, Reply, Usage


class LocalTeacher:
    """A model in this process. Its weights are loaded at the first call and stay when the teacher is closed."""

    def __init__(self, endpoint: Endpoint):
        if endpoint.local_model is None:
            raise TeacherRefused("model_unknown", f"the teacher {endpoint.name!r} names no model of this machine")
        self.endpoint = endpoint
        self._engine: Engine = engine_of(endpoint.local_model)
        self._places = asyncio.Semaphore(endpoint.in_flight)

    async def close(self) -> None:
        """Do nothing: other teachers of this process may use the model."""

    def request(self, prompt: Prompt) -> dict:
        """Return what the model is called with. A schema shapes the messages only."""
        return {
            "model": self.endpoint.model,
            "local_model": asdict(self.endpoint.local_model),
            "messages": prompt.messages(self.endpoint.replies),
            "temperature": prompt.temperature,
            "top_p": prompt.top_p,
            "max_tokens": prompt.max_tokens,
            "seed": prompt.seed,
        }

    async def complete(self, prompt: Prompt) -> Served:
        """Generate one reply. The tokens are counted by the model's tokenizer."""
        async with self._places:
            # A model may take minutes to load, which no timeout of a call should have to cover. Other callers may wait
            # for the same load, so that one who is cancelled must not cancel it.
            await asyncio.shield(asyncio.wrap_future(self._engine.load()))
            call = Call(
                prompt.messages(self.endpoint.replies),
                prompt.temperature,
                prompt.top_p,
                prompt.max_tokens,
                prompt.seed,
            )
            reply = await self._generate(call)
        return Served(reply, self.endpoint.model, usage_estimated=False)

    async def _generate(self, call: Call) -> Reply:
        seconds = self.endpoint.timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                answer = await asyncio.wrap_future(self._engine.submit(call))
        except TimeoutError as error:
            raise TryAgain(f"the model gave no answer in {seconds:g} s", paid=None, timeout=True) from error
        except Exception as error:
            # Too little memory, or whatever else the model raises.
            message = f"the model failed ({type(error).__name__}: {error})"
            raise TryAgain(message, paid=None, classified=False) from error
        finally:
            call.stopped.set()
        if answer.finish_reason == "context_length":
            return Reply(answer.text, "context_length", usage=Usage())
        usage = Usage(answer.prompt_tokens, 0, answer.completion_tokens)
        return Reply(answer.text[:MAX_REPLY_CHARACTERS], answer.finish_reason, usage=usage)
