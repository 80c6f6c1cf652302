"""Stops every process group of a stack, in order. It is a program of its own, because a supervisor can be killed.

The supervisor holds a pipe to the watchdog and reports each process: `+ pgid phase stop quit`, and `- pgid` at its end.
When the supervisor ends, for whatever reason, the pipe breaks, and the watchdog stops the remaining processes.
It needs the standard library alone, and runs without site-packages.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple


class StopTimeouts(NamedTuple):
    """The seconds that a process has after each signal; `stop_seconds` by phase.

    The first is long, since a worker waits for its calls in flight and releases its batches before it ends.
    """

    stop_seconds: tuple[float, float] = (6.5, 3.0)
    quit_seconds: float = 1.0
    kill_seconds: float = 1.0


class ProcessGroup(NamedTuple):
    """A process group. Phase 0 uses the servers of phase 1; `quit_signal` asks for a faster end than `stop_signal`."""

    pgid: int
    phase: int
    stop_signal: int
    quit_signal: int


def stop_groups(
    groups: Iterable[ProcessGroup], reap: Callable[[], object] = lambda: None, timeouts: StopTimeouts = StopTimeouts()
) -> None:
    """Stop the groups, phase by phase, by the stop signal, the quit signal and SIGKILL in turn.

    `reap` collects children that ended, which otherwise stay in the process table as zombies.
    """
    for phase in (0, 1):
        remaining = [group for group in groups if group.phase == phase]
        steps = (
            ("stop_signal", timeouts.stop_seconds[phase]),
            ("quit_signal", timeouts.quit_seconds),
            (None, timeouts.kill_seconds),
        )
        for signal_name, seconds in steps:
            remaining = [group for group in remaining if is_alive(group.pgid, reap)]
            for group in remaining:
                send_signal(group, getattr(group, signal_name) if signal_name else signal.SIGKILL)
            _wait(remaining, seconds, reap)


def _wait(groups: list[ProcessGroup], seconds: float, reap: Callable[[], object]) -> None:
    deadline = time.monotonic() + seconds
    while any(is_alive(group.pgid, reap) for group in groups) and time.monotonic() < deadline:
        time.sleep(0.02)


def is_alive(pgid: int, reap: Callable[[], object]) -> bool:
    """Return whether the group has a member."""
    reap()
    try:
        os.killpg(pgid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # A process of another account exists, though this one may not signal it.
        return True
    return True


def send_signal(group: ProcessGroup, signal_number: int) -> None:
    """Send a signal to a group: SIGKILL to all members, any other signal to the leader alone."""
    try:
        # The leader knows in which order its children have to end.
        if signal_number == signal.SIGKILL:
            os.killpg(group.pgid, signal_number)
        else:
            os.kill(group.pgid, signal_number)
    except ProcessLookupError:
        # The leader has ended, but members of its group may be alive.
        kill_group(group.pgid)
    except PermissionError:
        pass


def kill_group(pgid: int) -> None:
    """Send SIGKILL to all members of a group that may have ended."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, signal.SIGKILL)


def main() -> None:
    """Read reports until the pipe breaks, then stop all groups."""
    # A terminal sends its signals to all; the watchdog must outlive the processes that it watches.
    for ignored_signal in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored_signal, signal.SIG_IGN)
    groups: dict[int, ProcessGroup] = {}
    for line in sys.stdin:
        sign, *fields = line.split()
        pgid, *fields = map(int, fields)
        if sign == "+":
            groups[pgid] = ProcessGroup(pgid, *fields)
        else:
            groups.pop(pgid, None)
    stop_groups(groups.values())


if __name__ == "__main__":
    main()
