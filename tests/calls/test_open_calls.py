"""Calls that are ended at once: their chains end, and the batches that make them go on."""

import asyncio

import pytest

from app.calls.open_calls import OpenCalls
from app.synth.prompting.chains import gather_until_budget
from app.synth.types import CallsEnded


async def call(open_calls: OpenCalls, answers: bool) -> str:
    with open_calls.track():
        if not answers:
            await asyncio.Event().wait()
        return "an answer"


async def work(open_calls: OpenCalls) -> list[str]:
    return await gather_until_budget(call(open_calls, answers) for answers in (True, False, True))


def test_the_chains_that_have_ended_are_kept_when_the_others_are_ended():
    async def run() -> list[str]:
        open_calls = OpenCalls()
        batch = asyncio.create_task(work(open_calls))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        open_calls.end_all()
        results = await batch
        with pytest.raises(CallsEnded):
            await call(open_calls, answers=True)
        return results

    assert asyncio.run(run()) == ["an answer", "an answer"]


def test_a_cancel_of_the_whole_batch_goes_through():
    async def run() -> None:
        open_calls = OpenCalls()
        task = asyncio.create_task(call(open_calls, answers=False))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
