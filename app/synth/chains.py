"""Chains of calls that run side by side."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

from app.synth.types import CallsEnded

Result = TypeVar("Result")


async def gather_all(chains: Iterable[Awaitable[Result]]) -> list[Result]:
    """The chains' results in their order. When one can't go on, the others' calls in flight still come home."""
    grown = await asyncio.gather(*chains, return_exceptions=True)
    for chain in grown:
        if isinstance(chain, BaseException):
            raise chain
    return grown


async def gather_until_budget(chains: Iterable[Awaitable[Result]]) -> list[Result]:
    """The same; but when calls have ended for good, the results of the chains that were whole by then.

    Raises CallsEnded when none was.
    """
    grown = await asyncio.gather(*chains, return_exceptions=True)
    broken = [chain for chain in grown if isinstance(chain, BaseException)]
    for error in broken:
        if not isinstance(error, CallsEnded):
            raise error
    whole = [chain for chain in grown if not isinstance(chain, BaseException)]
    if broken and not whole:
        raise broken[0]
    return whole
