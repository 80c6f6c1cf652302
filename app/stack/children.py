"""The processes of a running stack: started, watched, started again, and all ended."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app.stack.guard import stop_groups
from app.stack.home import Home, StackError
from app.stack.processes import Child, Spec, rotate, spawn

GUARD = Path(__file__).with_name("guard.py")


@dataclass(frozen=True)
class RestartPolicy:
    """When a process that ended by itself is started again, and when no more."""

    max_starts: int = 6
    first_delay_seconds: float = 0.5
    longest_delay_seconds: float = 8.0
    # A process that lived this long has started well: its count begins again.
    settled_seconds: float = 60.0

    def delay(self, starts: int) -> float:
        """Seconds to wait before the next start of a process that was started `starts` times."""
        return min(self.first_delay_seconds * 2 ** (starts - 1), self.longest_delay_seconds)

    def next_start(self, starts: int, lived_seconds: float) -> int | None:
        """The number of the next start; None where the process was started often enough."""
        number = 1 if lived_seconds > self.settled_seconds else starts + 1
        return number if number <= self.max_starts else None


class Children:
    """`lock` is the home's lock: the guard holds it too, so the home is free when the last process is gone.

    `clock` gives seconds, as time.monotonic does.
    """

    def __init__(
        self,
        home: Home,
        lock: int,
        say: Callable[[str], object],
        restarts: RestartPolicy = RestartPolicy(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._restarts, self._clock = restarts, clock
        self.processes: dict[str, Child] = {}
        self.failure: StackError | None = None
        self.ended = threading.Event()
        self._home, self._say = home, say
        self._mutex = threading.RLock()
        self._due: dict[str, float] = {}
        # The kernel ties a child to the thread that started it, so one thread starts them all.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="stack-starter")
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD)],
            stdin=subprocess.PIPE,
            # It may outlive this process by seconds: a pipe behind the command should not wait for it.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            pass_fds=[lock],
            cwd="/",
        )

    def start(self, spec: Spec) -> None:
        rotate(self._home.log(spec.name))
        self._spawn(spec, 1)

    def start_again(self, name: str) -> None:
        """Start a process that has ended. Raises StackError when it has been tried often enough."""
        with self._mutex:
            child = self.processes[name]
            self._due.pop(name, None)
            self._tell("-", child.pid)
            _kill_group(child.pid)
            number = self._restarts.next_start(child.starts, self._clock() - child.started)
            if number is None:
                raise StackError(f"gave up after {child.starts} starts: {child.ending()}")
            self._spawn(child.spec, number)

    def _spawn(self, spec: Spec, starts: int) -> None:
        with self._mutex:
            if self.ended.is_set():
                return
            child = self._starter.submit(spawn, spec, self._home.log(spec.name)).result()
            child.starts, child.started = starts, self._clock()
            self.processes[spec.name] = child
            self._tell("+", *child.group)

    def watch(self) -> None:
        """Until the stack ends: what ends by itself is started again, a little later each time."""
        while not self.ended.wait(0.25):
            try:
                self.watch_once()
            except StackError as error:
                self.failure = error
                self.stop()

    def watch_once(self) -> None:
        """Start again what has ended and whose delay is over. Raises StackError when the stack has to end."""
        if self._guard.poll() is not None:
            raise StackError("the stack's guard process was ended from outside")
        now = self._clock()
        for name, child in list(self.processes.items()):
            if child.alive:
                continue
            if name not in self._due:
                delay = self._restarts.delay(child.starts)
                self._due[name] = now + delay
                self._say(f"{child.ending().partition(chr(10))[0]} starting it again in {delay:g} s")
            elif now >= self._due[name]:
                self.start_again(name)

    def check(self) -> None:
        """Raises StackError if a process has ended."""
        for child in self.processes.values():
            if not child.alive:
                raise StackError(child.ending())

    def stop(self) -> None:
        """End everything, in order. Safe to call twice, and from any thread."""
        self.ended.set()
        with self._mutex:
            if self._guard.stdin.closed:
                return
            stop_groups([child.group for child in self.processes.values()], self._reap)
            with suppress(BrokenPipeError):
                self._guard.stdin.close()
            self._guard.wait(15)
            self._starter.shutdown()

    def _reap(self) -> None:
        for child in self.processes.values():
            child.popen.poll()

    def _tell(self, sign: str, *numbers: int) -> None:
        # A broken pipe: `watch_once` finds the guard gone and ends the stack.
        with suppress(BrokenPipeError):
            print(sign, *map(int, numbers), file=self._guard.stdin, flush=True)


def _kill_group(pgid: int) -> None:
    """What a process that ended left behind in its group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, signal.SIGKILL)
