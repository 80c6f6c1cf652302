"""A plain function as a teacher: how it is called, and its answer as a reply. For a notebook and for the service."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from app.synth.prices import estimate
from app.synth.types import Reply, Usage

TeacherFunction = Callable[[list[dict]], str | Reply | Awaitable[str | Reply | None] | None]
"""Chat messages in, the reply out, as a text or with its usage; a plain or an async function."""

RunInThread = Callable[..., Awaitable]
"""Runs a function with its arguments in a thread, as `asyncio.to_thread` does."""


async def call_function(
    function: TeacherFunction, messages: list[dict], run_in_thread: RunInThread = asyncio.to_thread
) -> object:
    """Call the function with the messages and return its answer, whatever that is.

    A plain function may block for seconds, so it runs in a thread.

    Raises:
        Exception: Whatever the function raises; a StopIteration as RuntimeError.
    """
    if inspect.iscoroutinefunction(function):
        return await function(messages)
    answer = await run_in_thread(_without_stop_iteration, function, messages)
    return await answer if inspect.isawaitable(answer) else answer


def reply_of(answer: object, messages: Sequence[dict]) -> tuple[Reply, bool]:
    """Return the answer of a function as a reply with its usage, and whether the usage is an estimate.

    Usage that is missing, or that can't be true, is estimated.

    Raises:
        TypeError: The answer is neither a text nor a Reply.
    """
    if answer is None or isinstance(answer, str):
        answer = Reply(answer or "")
    if not isinstance(answer, Reply) or not isinstance(answer.text, str):
        raise TypeError(f"a teacher returns a text or a synth.Reply with one, not {type(answer).__name__}")
    # A function may copy usage from a server that reports zeros, by which no ceiling would ever be reached.
    if _is_plausible(answer.usage):
        return answer, False
    return replace(answer, usage=estimate(messages, answer.text)), True


def _is_plausible(usage: object) -> bool:
    if not isinstance(usage, Usage) or usage == Usage():
        return False
    counts = (usage.prompt, usage.cached, usage.completion)
    return all(isinstance(count, int) and count >= 0 for count in counts) and usage.cached <= usage.prompt


def _without_stop_iteration(function: TeacherFunction, messages: list[dict]) -> object:
    # A future can't hold a StopIteration: whoever awaits the thread would wait for ever.
    try:
        return function(messages)
    except StopIteration as error:
        raise RuntimeError("the teacher raised StopIteration") from error
