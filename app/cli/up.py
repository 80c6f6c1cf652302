"""seedbed up: the embedded stack in the foreground."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from app import config
from app.cli.session import DEFAULT_HOME, HomeOption
from app.stack import Stack


def up(
    home: HomeOption = DEFAULT_HOME,
    host: Annotated[str, typer.Option(help="Where the API listens.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Its port: 8000, or a free one, unless given.")] = None,
) -> None:
    """Start everything here, print the address and a key, and end everything at Ctrl-C.

    DATABASE_URL, REDIS_URL and SEEDBED_CONFIG (see seedbed.example.toml) each switch that part to a real one.
    """
    began = time.monotonic()
    with ended_by_signals(), local_stack(home, host, port, say=print) as stack:
        print(f"\nSeedbed is ready, after {time.monotonic() - began:.1f} s.")
        for name, value in describe(stack):
            print(f"  {name:<9}{value}")
        print("Ctrl-C ends it and every process it started.\n", flush=True)
        try:
            stack.wait()
        except KeyboardInterrupt:
            print("\nending …", flush=True)
    print("Every process has ended.")


def describe(stack: Stack) -> Iterator[tuple[str, str]]:
    yield "address", stack.url
    yield "docs", f"{stack.url}/docs"
    yield "key", f"{stack.api_key}  (kept in {stack.state_dir.key_file})"
    if stack.teacher_url:
        yield "teacher", "simulated: it shows that the machinery works and teaches a model nothing"
    yield "logs", str(stack.state_dir.logs)


@contextmanager
def local_stack(home: Path, host: str = "127.0.0.1", port: int | None = None, say=lambda line: None):
    """The whole stack on a home, with the parts that the operator's settings switch to real ones."""
    settings = config.settings()
    stack = Stack(
        home,
        host=host,
        port=port,
        database_url=settings.database_url,
        redis_url=settings.redis_url,
        config=settings.config,
        say=say,
    )
    try:
        stack.start()
        yield stack
    finally:
        with deaf():
            stack.stop()


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM, and a terminal that closes, end a command as Ctrl-C does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deaf() -> Iterator[None]:
    """A second Ctrl-C must not leave half of the processes behind; the stop is short by itself."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
