"""When a process that ended is restarted: the policy alone, and real processes with a clock of the test."""

import os
from collections.abc import Iterator

import pytest

from app.stack import StackError
from app.stack.processes import Processes, ProcessSpec, RestartPolicy
from app.stack.state_dir import StateDir
from tests.fakes import FakeClock
from tests.waiting import until


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def processes(tmp_path, clock) -> Iterator[Processes]:
    state_dir = StateDir(tmp_path / "home")
    state_dir.path.mkdir()
    lock = state_dir.acquire_lock()
    state_dir.create()
    processes = Processes(state_dir, lock, lambda line: None, RestartPolicy(max_starts=3), clock)
    yield processes
    processes.stop()
    os.close(lock)


def start_and_await_end(processes: Processes) -> None:
    processes.start(ProcessSpec("brief", ("/bin/true",), env=dict(os.environ)))
    await_end(processes)


def await_end(processes: Processes) -> None:
    until(lambda: not processes.processes["brief"].is_alive)


def test_delays_double_up_to_the_longest():
    policy = RestartPolicy()
    assert [policy.delay(starts) for starts in range(1, 7)] == [0.5, 1, 2, 4, 8, 8]


def test_starts_are_counted_until_a_process_has_settled():
    policy = RestartPolicy(max_starts=3, stable_seconds=60)
    assert [policy.next_start_number(starts, 1) for starts in (1, 2, 3)] == [2, 3, None]
    assert policy.next_start_number(3, 61) == 1


def test_a_process_is_started_again_after_its_delay_and_not_before(processes, clock):
    start_and_await_end(processes)
    first = processes.processes["brief"].pid
    processes.monitor_once()
    clock.advance(0.4)
    processes.monitor_once()
    assert processes.processes["brief"].pid == first
    clock.advance(0.2)
    processes.monitor_once()
    assert processes.processes["brief"].pid != first and processes.processes["brief"].start_count == 2


def test_a_process_that_keeps_ending_is_given_up_and_one_that_settled_is_not(processes, clock):
    start_and_await_end(processes)
    for stable in (False, True, False, False):
        clock.advance(61 if stable else 0)
        processes.monitor_once()
        clock.advance(8)
        processes.monitor_once()
        await_end(processes)
    processes.monitor_once()
    clock.advance(8)
    with pytest.raises(StackError, match="failed after 3 starts"):
        processes.monitor_once()
