"""Chains of calls that run side by side."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

Result = TypeVar("Result")


async def together(chains: Iterable[Awaitable[Result]]) -> list[Result]:
    """The chains' results in their order. When one can't go on, the others' calls in flight still come home."""
    grown = await asyncio.gather(*chains, return_exceptions=True)
    for chain in grown:
        if isinstance(chain, BaseException):
            raise chain
    return grown
