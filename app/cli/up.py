"""seedbed up: the embedded stack in the foreground."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from app import config
from app.cli.session import DEFAULT_STATE_DIR, StateDirOption
from app.stack import Stack


def up(
    state_dir: StateDirOption = DEFAULT_STATE_DIR,
    host: Annotated[str, typer.Option(help="The address that the API listens on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="The port of the API. The default is 8000, or a free port.")] = None,
) -> None:
    """Start the whole service on this machine, print its address and an API key, and stop it at Ctrl-C.

    DATABASE_URL, REDIS_URL and SEEDBED_CONFIG (see seedbed.example.toml) each replace a part of the local stack.
    """
    started = time.monotonic()
    with interrupt_on_signals(), local_stack(state_dir, host, port, say=print) as stack:
        print(f"\nSeedbed is ready after {time.monotonic() - started:.1f} s.")
        for name, value in describe(stack):
            print(f"  {name:<9}{value}")
        print("Ctrl-C stops the service and all of its processes.\n", flush=True)
        try:
            stack.wait()
        except KeyboardInterrupt:
            print("\nstopping …", flush=True)
    print("Every process has ended.")


def describe(stack: Stack) -> Iterator[tuple[str, str]]:
    """Yield (label, text) of what a user needs to know about a running stack."""
    yield "address", stack.url
    yield "docs", f"{stack.url}/docs"
    yield "key", f"{stack.api_key}  (saved in {stack.state_dir.key_file})"
    if stack.teacher_url:
        yield "teacher", "simulated: it shows that the pipeline works, but a model learns nothing from its rows"
    yield "logs", str(stack.state_dir.logs)


@contextmanager
def local_stack(
    state_dir: Path,
    host: str = "127.0.0.1",
    port: int | None = None,
    say: Callable[[str], object] = lambda line: None,
    config_file: Path | None = None,
):
    """Start a stack on `state_dir`, yield it, and stop it.

    The operator's settings decide which parts are real ones (DATABASE_URL, REDIS_URL, SEEDBED_CONFIG). `config_file`
    takes the place of SEEDBED_CONFIG.
    """
    settings = config.settings()
    stack = Stack(
        state_dir,
        host=host,
        port=port,
        database_url=settings.database_url,
        redis_url=settings.redis_url,
        config=config_file or settings.config,
        say=say,
    )
    try:
        stack.start()
        yield stack
    finally:
        # Also after an error or Ctrl-C: no process may be left behind.
        with ignore_signals():
            stack.stop()


@contextmanager
def interrupt_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP (the terminal closes) raise KeyboardInterrupt, as Ctrl-C does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    previous_handlers = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)


@contextmanager
def ignore_signals() -> Iterator[None]:
    """Ignore signals while the stack stops."""
    # A second Ctrl-C would interrupt the stop and leave processes behind. The stop itself takes only seconds.
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous_handlers = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)
