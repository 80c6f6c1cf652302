"""Functions as an operator would name them: `tests.providers.teacher_functions:NAME`."""

import asyncio
import itertools
import json
import threading
from collections.abc import Callable

from app.synth.types import Reply
from tests.fakes import unlike

_numbers = itertools.count()
# What the functions below do: a test sets it before its call. Their names are all that a configuration can give.
behave: list[Callable[[list[dict]], object]] = []
NOT_A_FUNCTION = "text"


def plain(messages: list[dict]) -> object:
    return behave[-1](messages)


async def asynchronous(messages: list[dict]) -> object:
    answer = behave[-1](messages)
    if isinstance(answer, threading.Event):
        await asyncio.Event().wait()
    return answer


class _Callable:
    async def __call__(self, messages: list[dict]) -> object:
        return await asynchronous(messages)


an_object = _Callable()


def echo(messages: list[dict]) -> str:
    return messages[-1]["content"]


def json_reply(messages: list[dict]) -> Reply:
    return Reply('{"instances": [{"input": "tree", "output": "trees"}, {"input": "mouse", "output": "mice"}]}')


def self_instruct(messages: list[dict]) -> str:
    """An answer to each step of Self-Instruct, told by the shape that the messages ask for."""
    number, asked = next(_numbers), messages[0]["content"]
    if '"instructions"' in asked:
        return json.dumps({"instructions": [f"Explain to me {unlike('function', number, n)}" for n in range(8)]})
    if '"is_classification"' in asked:
        return json.dumps({"is_classification": False})
    return json.dumps({"instances": [{"input": "", "output": f"An answer about {unlike(number)}"}]})
