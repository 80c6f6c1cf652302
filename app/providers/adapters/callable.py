"""A Python function as a teacher: chat messages in, a text or a `synth.Reply` out."""

import asyncio
import pkgutil
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace

from app.providers.adapter import Adapter
from app.providers.teacher import MAX_REPLY_CHARACTERS, Endpoint, Served, unreadable
from app.synth.teacher_errors import TeacherRefused, TryAgain, meaning_of_exception
from app.synth.teacher_functions import TeacherFunction, call_function, reply_of
from app.synth.types import Prompt, Reply


class CallableTeacher:
    """The function that the endpoint names. It is imported at the first call.

    A plain function runs in a thread of its own, of which there are at most `in_flight`. Nothing can end a thread: one
    whose call took too long keeps its place until the function returns.
    """

    def __init__(self, endpoint: Endpoint):
        self.endpoint = endpoint
        self._places = asyncio.Semaphore(endpoint.in_flight)
        self._function: TeacherFunction | None = None

    async def close(self) -> None:
        """Do nothing: a function holds no connection of ours."""

    def request(self, prompt: Prompt) -> dict:
        """Return what the function is called with, and what else the prompt asks of the reply."""
        return {
            "function": self.endpoint.function,
            "model": self.endpoint.model,
            "messages": prompt.messages(self.endpoint.replies),
            "temperature": prompt.temperature,
            "max_tokens": prompt.max_tokens,
            "top_p": prompt.top_p,
            "seed": prompt.seed,
            "schema": prompt.schema,
        }

    async def complete(self, prompt: Prompt) -> Served:
        """Call the function. What it raises is read by its status, code and headers, as in `synth.grow`."""
        messages = prompt.messages(self.endpoint.replies)
        place = await self._take_place()
        try:
            function = self._function = self._function or await self._load(place)
            answer = await self._call(function, messages, place)
        finally:
            place.leave()
        if isinstance(answer, Served):
            return answer
        try:
            reply, estimated = reply_of(answer, messages)
        except TypeError as error:
            return unreadable(messages, str(error))
        return self._served(reply, estimated)

    async def _call(self, function: TeacherFunction, messages: list[dict], place: "_Place") -> object:
        try:
            async with asyncio.timeout(self.endpoint.timeout_seconds):
                return await call_function(function, messages, place.run_in_thread)
        except asyncio.CancelledError as error:
            if asyncio.current_task().cancelling():
                raise
            raise TryAgain("the function was cancelled from within", paid=None) from error
        except (Exception, SystemExit) as error:
            meaning = meaning_of_exception(error)
            if isinstance(meaning, Reply):
                return self._served(meaning, False)
            raise meaning from error

    def _served(self, reply: Reply, estimated: bool) -> Served:
        return Served(replace(reply, text=reply.text[:MAX_REPLY_CHARACTERS]), self.endpoint.model, estimated)

    async def _take_place(self) -> "_Place":
        seconds = self.endpoint.timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                await self._places.acquire()
        except TimeoutError as error:
            message = f"the function did not return from any of {self.endpoint.in_flight} calls in {seconds:g} s"
            raise TryAgain(message, timeout=True) from error
        return _Place(self._places)

    async def _load(self, place: "_Place") -> TeacherFunction:
        name = self.endpoint.function
        try:
            function = await place.run_in_thread(pkgutil.resolve_name, name)
        except (Exception, SystemExit) as error:
            message = f"the teacher's function {name!r} can't be imported ({type(error).__name__}: {error})"
            advice = "install its module, or name its folder in PYTHONPATH"
            raise TeacherRefused("model_unknown", f"{message}; {advice}") from error
        if not callable(function):
            message = f"the teacher's function {name!r} is no function but of type {type(function).__name__}"
            raise TeacherRefused("model_unknown", message)
        return function


class _Place:
    """One of the places for calls at once. Who called leaves it, and so does a thread when its function returns."""

    def __init__(self, places: asyncio.Semaphore):
        self._places, self._loop, self._occupants = places, asyncio.get_running_loop(), 1

    def leave(self) -> None:
        self._occupants -= 1
        if not self._occupants:
            self._places.release()

    async def run_in_thread(self, function: Callable, *arguments: object) -> object:
        """Run the function in a new thread, which does not keep the process from ending."""
        future: Future = Future()
        thread = threading.Thread(target=self._run, args=(future, function, arguments), name="teacher", daemon=True)
        thread.start()
        self._occupants += 1
        return await asyncio.wrap_future(future)

    def _run(self, future: Future, function: Callable, arguments: tuple) -> None:
        # Otherwise a caller who no longer waits would cancel it, and the result could not be set.
        future.set_running_or_notify_cancel()
        try:
            future.set_result(function(*arguments))
        except BaseException as error:
            future.set_exception(error)
        # The loop is closed when the function returns after all else has ended.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.leave)


# A function gets no schema: the messages ask for JSON or for tagged text.
ADAPTER = Adapter(open_teacher=CallableTeacher, forms=("json_object", "tagged"))
