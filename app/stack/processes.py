"""The processes of a running stack: it starts, monitors, restarts and stops them."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app.stack.process import Process, ProcessSpec, rotate_log, start_process
from app.stack.state_dir import StackError, StateDir
from app.stack.watchdog import kill_group, stop_groups

WATCHDOG_PROGRAM = Path(__file__).with_name("watchdog.py")


@dataclass(frozen=True)
class RestartPolicy:
    """Decides when a process that ended by itself is restarted, and how often."""

    max_starts: int = 6
    first_delay_seconds: float = 0.5
    max_delay_seconds: float = 8.0
    # A process that ran this long has no problem with its start, so its count begins again.
    stable_seconds: float = 60.0

    def delay(self, start_count: int) -> float:
        """Return the seconds to wait before the next start of a process that was started `start_count` times."""
        return min(self.first_delay_seconds * 2 ** (start_count - 1), self.max_delay_seconds)

    def next_start_number(self, start_count: int, uptime_seconds: float) -> int | None:
        """Return the number of the next start, or None if the process was started too often."""
        start_number = 1 if uptime_seconds > self.stable_seconds else start_count + 1
        return start_number if start_number <= self.max_starts else None


class Processes:
    """All processes of a stack.

    Args:
        state_dir: The directory of the logs.
        lock: The descriptor of its lock. The watchdog inherits it, so the lock lasts until the last process has ended.
        say: Receives messages for people.
        restarts: When a process that ended is restarted.
        clock: Returns seconds, as time.monotonic does.
    """

    def __init__(
        self,
        state_dir: StateDir,
        lock: int,
        say: Callable[[str], object],
        restarts: RestartPolicy = RestartPolicy(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._restarts, self._clock = restarts, clock
        self.processes: dict[str, Process] = {}
        self.failure: StackError | None = None
        self.ended = threading.Event()
        self._state_dir, self._say = state_dir, say
        self._mutex = threading.RLock()
        self._restart_times: dict[str, float] = {}
        # The kernel ends a process with the thread that started it, so one thread starts them all and lives on.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="stack-starter")
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-S", str(WATCHDOG_PROGRAM)],
            stdin=subprocess.PIPE,
            # The watchdog may outlive this process by seconds, and a pipe after the command must not wait for it.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            pass_fds=[lock],
            cwd="/",
        )

    def start(self, spec: ProcessSpec) -> None:
        """Start a process with a new log."""
        rotate_log(self._state_dir.log_file(spec.name))
        self._spawn(spec, 1)

    def restart(self, name: str) -> None:
        """Restart a process that has ended.

        Raises:
            StackError: The process was started too often.
        """
        with self._mutex:
            process = self.processes[name]
            self._restart_times.pop(name, None)
            self._report_to_watchdog("-", process.pid)
            # Children of the process may be alive, and would compete with those of the new one.
            kill_group(process.pid)
            start_number = self._restarts.next_start_number(process.start_count, self._clock() - process.started_at)
            if start_number is None:
                raise StackError(
                    f"The stack ends, because a process failed after {process.start_count} starts. "
                    f"{process.describe_end()}"
                )
            self._spawn(process.spec, start_number)

    def _spawn(self, spec: ProcessSpec, start_count: int) -> None:
        with self._mutex:
            if self.ended.is_set():
                return
            process = self._starter.submit(start_process, spec, self._state_dir.log_file(spec.name)).result()
            process.start_count, process.started_at = start_count, self._clock()
            self.processes[spec.name] = process
            self._report_to_watchdog("+", *process.watchdog_group)

    def monitor(self) -> None:
        """Monitor the processes until the stack ends."""
        while not self.ended.wait(0.25):
            try:
                self.monitor_once()
            except StackError as error:
                self.failure = error
                self.stop()

    def monitor_once(self) -> None:
        """Restart each process that has ended and whose delay is over.

        Raises:
            StackError: The stack has to end.
        """
        if self._watchdog.poll() is not None:
            raise StackError("The watchdog of the stack was ended from outside.")
        now = self._clock()
        for name, process in list(self.processes.items()):
            if process.is_alive:
                continue
            if name not in self._restart_times:
                delay = self._restarts.delay(process.start_count)
                self._restart_times[name] = now + delay
                self._say(f"{process.describe_end().partition(chr(10))[0]} It is restarted in {delay:g} s.")
            elif now >= self._restart_times[name]:
                self.restart(name)

    def raise_if_ended(self) -> None:
        """Raise StackError if a process has ended."""
        for process in self.processes.values():
            if not process.is_alive:
                raise StackError(process.describe_end())

    def stop(self) -> None:
        """Stop all processes, in order. The call may be repeated, from any thread."""
        self.ended.set()
        with self._mutex:
            if self._watchdog.stdin.closed:
                return
            stop_groups([process.watchdog_group for process in self.processes.values()], self._reap)
            with suppress(BrokenPipeError):
                self._watchdog.stdin.close()
            self._watchdog.wait(15)
            self._starter.shutdown()

    def _reap(self) -> None:
        for process in self.processes.values():
            process.popen.poll()

    def _report_to_watchdog(self, sign: str, *numbers: int) -> None:
        # If the pipe is broken, `monitor_once` notices that the watchdog has ended, and ends the stack.
        with suppress(BrokenPipeError):
            print(sign, *map(int, numbers), file=self._watchdog.stdin, flush=True)
