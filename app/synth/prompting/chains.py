"""Concurrent chains of calls to a teacher."""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from typing import TypeVar

from app.synth.types import CallFailed, CallsEnded, Candidate

Result = TypeVar("Result")


async def gather_all(chains: Iterable[Awaitable[Result]]) -> list[Result]:
    """Wait for all chains and return their results in order.

    Calls in flight are paid for, so no chain is cancelled when another one fails.

    Raises:
        BaseException: the first error of a chain, after all chains have ended.
    """
    results = await asyncio.gather(*chains, return_exceptions=True)
    # An error is raised after all chains have ended, so that no task outlives the batch.
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


async def reject_on_failure(draft: Candidate, chain: Awaitable[Candidate]) -> Candidate:
    """Return the row of the chain, or the draft with a rejection when one of the chain's calls failed for good."""
    # CallsEnded passes: it says nothing about this row, which a later try of the batch can complete.
    try:
        return await chain
    except CallFailed as error:
        return draft.reject(error.reason, str(error))


async def reject_once_on_failure(draft: Candidate, chain: Awaitable[list[Candidate]]) -> list[Candidate]:
    """Return the rows of the chain, or the draft with one rejection when one of the chain's calls failed for good."""
    try:
        return await chain
    except CallFailed as error:
        return [draft.reject(error.reason, str(error))]


async def reject_all_on_failure(drafts: Sequence[Candidate], chain: Awaitable[list[Candidate]]) -> list[Candidate]:
    """Return the rows of the chain, or each draft with a rejection when a call that all of them share failed."""
    try:
        return await chain
    except CallFailed as error:
        return [draft.reject(error.reason, str(error)) for draft in drafts]


async def keep_rejected(rejected: Sequence[Candidate], chain: Awaitable[list[Candidate]]) -> list[Candidate]:
    """Return the rejected rows and those of the chain; the rejected ones alone when the calls ended before its end.

    Raises:
        CallsEnded: the calls ended, and no row was rejected.
    """
    try:
        return [*rejected, *await chain]
    except CallsEnded:
        # The rejected rows are complete. Without any the caller has to know that nothing was produced.
        if not rejected:
            raise
        return list(rejected)


async def gather_until_budget(chains: Iterable[Awaitable[Result]]) -> list[Result]:
    """Wait for all chains and return the results of those that finished before the calls ended.

    Raises:
        CallsEnded: the calls ended before any chain finished.
    """
    results = await asyncio.gather(*chains, return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    # A real fault must not pass for an exhausted budget.
    for error in errors:
        if not isinstance(error, CallsEnded):
            raise error
    completed = [result for result in results if not isinstance(result, BaseException)]
    # Without any result the caller has to know that the batch produced nothing.
    if errors and not completed:
        raise errors[0]
    return completed
