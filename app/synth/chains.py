"""Chains of calls that run side by side."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

from app.synth.types import CallsEnded

Result = TypeVar("Result")


async def gather_all(chains: Iterable[Awaitable[Result]]) -> list[Result]:
    """The chains' results in their order. When one can't go on, the others' calls in flight still come home."""
    results = await asyncio.gather(*chains, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


async def gather_until_budget(chains: Iterable[Awaitable[Result]]) -> list[Result]:
    """The same; but when calls have ended for good, the results of the chains that were whole by then.

    Raises CallsEnded when none was.
    """
    results = await asyncio.gather(*chains, return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    for error in errors:
        if not isinstance(error, CallsEnded):
            raise error
    completed = [result for result in results if not isinstance(result, BaseException)]
    if errors and not completed:
        raise errors[0]
    return completed
