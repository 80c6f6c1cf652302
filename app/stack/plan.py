"""Which processes a stack has, and with which commands."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from app.stack.processes import Spec

SERVERS = ("postgres", "redis")
WORKERS = ("generation", "exports", "finetuning", "sweeper")
ALL = (*SERVERS, "simulator", "api", *WORKERS)


def simulator(port: int, options: Sequence[str]) -> Spec:
    argv = (sys.executable, "-m", "app.simulator", "--port", str(port), *options)
    return Spec("simulator", argv)


def api(host: str, port: int) -> Spec:
    argv = (sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory", "--host", host, "--port", str(port))
    # Event streams never end by themselves: without a limit one open page would hold up the stop.
    quiet = ("--no-access-log", "--timeout-graceful-shutdown", "1")
    return Spec("api", argv + quiet)


def prepare(key_file: Path) -> tuple[str, ...]:
    return (sys.executable, "-m", "app.stack.prepare", str(key_file))


def worker(name: str) -> Spec:
    if name == "sweeper":
        return Spec(name, (sys.executable, "-m", "workers.sweeper"))
    if name == "finetuning":
        # One process and one task each: all of a training's memory goes back with it.
        pool = ("--pool", "prefork", "-c", "1", "--max-tasks-per-child", "1")
        argv = _celery(name, pool, ("--", "worker.pool_start_method=spawn"))
        # At SIGTERM it would wait for the end of the training.
        return Spec(name, argv, stop=signal.SIGQUIT)
    threads = "4" if name == "generation" else "2"
    return Spec(name, _celery(name, ("--pool", "threads", "-c", threads), ()))


def _celery(queue: str, pool: tuple[str, ...], settings: tuple[str, ...]) -> tuple[str, ...]:
    app = (sys.executable, "-m", "celery", "-A", "app.jobs.queue:app", "worker", "-Q", queue, "-I", f"workers.{queue}")
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "INFO", "-n", f"{queue}@%h")
    return (*app, *pool, *quiet, *settings)


def environment(changes: dict[str, str]) -> dict[str, str]:
    """What every process of the stack gets: the caller's environment with `changes`."""
    cores = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    # PASSIVE: threads that wait actively take the cores from the other processes of a full machine, and from each
    # other; a training of the demo beside two busy processes on two cores took 203 s with, and 43 s without.
    defaults = {"OMP_NUM_THREADS": cores, "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
    # SAFEPATH: a folder called `app` where the stack is started from must not stand in for ours.
    fixed = {"PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}
    inherited = {name: value for name, value in os.environ.items() if name != "SEEDBED_API_KEY"}
    return defaults | inherited | fixed | changes
