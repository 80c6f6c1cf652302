"""Ends every process group of a stack, in order. A program of its own, because a supervisor can be killed.

The supervisor holds a pipe to it and reports each process (`+ pgid phase stop quit` and `- pgid`).
The pipe breaks when the supervisor is gone, whatever took it: the guard then ends what is left.
It uses the standard library alone, and runs without site-packages.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple


class Patience(NamedTuple):
    """How many seconds a process has after each signal; after the first one by phase.

    A worker that is asked to end lets the calls in flight come home and gives its work back.
    """

    polite: tuple[float, float] = (6.5, 3.0)
    urgent: float = 1.0
    killed: float = 1.0


class Group(NamedTuple):
    """One process group. Phase 0 uses what phase 1 serves; `quit` is what it understands as a hurry."""

    pgid: int
    phase: int
    stop: int
    quit: int


def stop_groups(
    groups: Iterable[Group], reap: Callable[[], object] = lambda: None, patience: Patience = Patience()
) -> None:
    """End the groups, phase by phase: asked, urged, killed. `reap` collects children that ended."""
    for phase in (0, 1):
        left = [group for group in groups if group.phase == phase]
        waits = (("stop", patience.polite[phase]), ("quit", patience.urgent), (None, patience.killed))
        for number, seconds in waits:
            left = [group for group in left if alive(group.pgid, reap)]
            for group in left:
                send(group, getattr(group, number) if number else signal.SIGKILL)
            _wait(left, seconds, reap)


def _wait(groups: list[Group], seconds: float, reap: Callable[[], object]) -> None:
    until = time.monotonic() + seconds
    while any(alive(group.pgid, reap) for group in groups) and time.monotonic() < until:
        time.sleep(0.02)


def alive(pgid: int, reap: Callable[[], object]) -> bool:
    reap()
    try:
        os.killpg(pgid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def send(group: Group, number: int) -> None:
    """Asking goes to the leader, which knows its order; killing goes to all of the group."""
    try:
        if number == signal.SIGKILL:
            os.killpg(group.pgid, number)
        else:
            os.kill(group.pgid, number)
    except ProcessLookupError:
        # The leader is gone and left members behind.
        _kill_rest(group.pgid)
    except PermissionError:
        pass


def _kill_rest(pgid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, signal.SIGKILL)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: dict[int, Group] = {}
    for line in sys.stdin:
        sign, *numbers = line.split()
        pgid, *rest = map(int, numbers)
        if sign == "+":
            groups[pgid] = Group(pgid, *rest)
        else:
            groups.pop(pgid, None)
    stop_groups(groups.values())


if __name__ == "__main__":
    main()
