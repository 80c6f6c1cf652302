"""Waiting until something has happened: the one place of the tests that sleeps.

A limit says when to give up, never how fast something must be, so every limit is generous, and grows with the load of
the machine. A test that measures time injects a clock instead.
"""

import asyncio
import os
import time
from collections.abc import Callable
from typing import TypeVar

import httpx

ENDED = ("succeeded", "failed", "cancelled")
# For an HTTP client and for a child process: enough on a machine that is ten times slower than usual.
HTTP_SECONDS, PROCESS_SECONDS = 120, 600
# Settings of a stack: short leases and polls, so that tests of lost leases need no long waits.
FAST = {"SEEDBED_LEASE_SECONDS": "6", "SEEDBED_SWEEP_SECONDS": "0.5", "SEEDBED_POLL_SECONDS": "2"}
T = TypeVar("T")


def until(condition: Callable[[], T], seconds: float = 60, every: float = 0.05, message: object = "") -> T:
    """The first true value of `condition`, asked for `every` so many seconds. Raises AssertionError after the limit.

    `message` is added to the error; a callable is called then.
    """
    started = time.monotonic()
    while not (value := condition()):
        if time.monotonic() - started > seconds * load():
            raise AssertionError(_late(started, value, message))
        time.sleep(every)
    return value


async def until_in_loop(condition: Callable[[], T], seconds: float = 60, message: object = "") -> T:
    """`until` for a test that runs in an event loop: other tasks go on meanwhile."""
    started = time.monotonic()
    while not (value := condition()):
        if time.monotonic() - started > seconds * load():
            raise AssertionError(_late(started, value, message))
        await asyncio.sleep(0.005)
    return value


def until_ended(client: httpx.Client, path: str, seconds: float = 120) -> dict:
    """The job at `path` once it has ended, however it ended."""
    job: dict = {}

    def ended() -> bool:
        job.update(client.get(path).json())
        return job["status"] in ENDED

    until(ended, seconds, every=0.1, message=lambda: job)
    return job


def let_pass(seconds: float) -> None:
    """Let a fault last, or come at its moment. For the fault trials alone."""
    time.sleep(seconds)


def load() -> float:
    """How much slower than idle this machine is at most: the processes that want a core, for each core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1.0, os.getloadavg()[0] / cores)


def _late(started: float, value: object, message: object) -> str:
    words = message() if callable(message) else message
    return f"after {time.monotonic() - started:.0f} s the condition is still {value!r}. {words}"
