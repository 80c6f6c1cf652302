"""The processes of a stack and their commands."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from app.stack.process import ProcessSpec

SERVERS = ("postgres", "redis")
WORKERS = ("generation", "exports", "finetuning", "scoring", "sweeper")
# Jobs that a worker works on at once. A training child takes all of a GPU's memory that it can get.
THREADS = {"generation": 4, "exports": 2, "finetuning": 1, "scoring": 1}
ALL = (*SERVERS, "simulator", "api", *WORKERS)


def simulator(port: int, options: Sequence[str]) -> ProcessSpec:
    """Return the simulated teacher, with options of its command line."""
    argv = (sys.executable, "-m", "app.simulator", "--port", str(port), *options)
    return ProcessSpec("simulator", argv)


def api(host: str, port: int) -> ProcessSpec:
    """Return the process of the API."""
    argv = (sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory", "--host", host, "--port", str(port))
    # Event streams never end by themselves, so without a limit one open page would delay the shutdown.
    options = ("--no-access-log", "--timeout-graceful-shutdown", "1")
    return ProcessSpec("api", argv + options)


def prepare(key_file: Path) -> tuple[str, ...]:
    """Return the command that migrates the database and writes an API key to a file."""
    return (sys.executable, "-m", "app.stack.prepare", str(key_file))


def worker(name: str) -> ProcessSpec:
    """Return the worker of this name, one of WORKERS."""
    if name == "sweeper":
        return ProcessSpec(name, (sys.executable, "-m", "workers.sweeper"))
    return ProcessSpec(name, _celery(name, str(THREADS[name])))


def _celery(queue: str, threads: str) -> tuple[str, ...]:
    app = (sys.executable, "-m", "celery", "-A", "app.jobs.queue:app", "worker", "-Q", queue, "-I", f"workers.{queue}")
    options = ("--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "INFO", "-n", f"{queue}@%h")
    return (*app, "--pool", "threads", "-c", threads, *options)


def environment(changes: dict[str, str]) -> dict[str, str]:
    """Return the environment of the stack's processes: the caller's environment with `changes`."""
    cores = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    # PASSIVE: threads that wait actively keep the cores of a loaded machine from other processes and from each other.
    # The training of the demo, beside two busy processes on two cores, took 203 s with active and 43 s with passive
    # waits.
    defaults = {"OMP_NUM_THREADS": cores, "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
    # SAFEPATH: a folder `app` in the current directory must not be imported in place of this package.
    fixed = {"PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}
    inherited = {name: value for name, value in os.environ.items() if name != "SEEDBED_API_KEY"}
    return defaults | inherited | fixed | changes
