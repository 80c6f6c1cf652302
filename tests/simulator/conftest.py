"""A simulated teacher as a real process, started with the options that a test needs."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.waiting import PROCESS_SECONDS

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[..., str]]:
    """Return a function: `serve("--seed", "3")` starts a process and returns its address."""
    processes = []

    def start(*options: str) -> str:
        argv = [sys.executable, "-u", "-m", "app.simulator", "--port", "0", "--latency", "0", *options]
        process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return re.search(r"http://\S+", process.stdout.readline()).group(0)

    yield start
    for process in processes:
        process.terminate()
    for process in processes:
        assert process.wait(PROCESS_SECONDS) is not None
