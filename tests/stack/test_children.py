"""When a process that ended is started again: the policy by itself, and real processes with a clock of the test's."""

import os
from collections.abc import Iterator

import pytest

from app.stack import StackError
from app.stack.children import Children, RestartPolicy
from app.stack.home import Home
from app.stack.processes import Spec
from tests.fakes import FakeClock
from tests.waiting import until


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def children(tmp_path, clock) -> Iterator[Children]:
    home = Home(tmp_path / "home")
    home.path.mkdir()
    lock = home.lock()
    home.prepare()
    children = Children(home, lock, lambda line: None, RestartPolicy(max_starts=3), clock)
    yield children
    children.stop()
    os.close(lock)


def start_and_await_end(children: Children) -> None:
    children.start(Spec("brief", ("/bin/true",), env=dict(os.environ)))
    await_end(children)


def await_end(children: Children) -> None:
    until(lambda: not children.processes["brief"].alive)


def test_delays_double_up_to_the_longest():
    policy = RestartPolicy()
    assert [policy.delay(starts) for starts in range(1, 7)] == [0.5, 1, 2, 4, 8, 8]


def test_starts_are_counted_until_a_process_has_settled():
    policy = RestartPolicy(max_starts=3, settled_seconds=60)
    assert [policy.next_start(starts, 1) for starts in (1, 2, 3)] == [2, 3, None]
    assert policy.next_start(3, 61) == 1


def test_a_process_is_started_again_after_its_delay_and_not_before(children, clock):
    start_and_await_end(children)
    first = children.processes["brief"].pid
    children.watch_once()
    clock.advance(0.4)
    children.watch_once()
    assert children.processes["brief"].pid == first
    clock.advance(0.2)
    children.watch_once()
    assert children.processes["brief"].pid != first and children.processes["brief"].starts == 2


def test_a_process_that_keeps_ending_is_given_up_and_one_that_settled_is_not(children, clock):
    start_and_await_end(children)
    for settled in (False, True, False, False):
        clock.advance(61 if settled else 0)
        children.watch_once()
        clock.advance(8)
        children.watch_once()
        await_end(children)
    children.watch_once()
    clock.advance(8)
    with pytest.raises(StackError, match="gave up after 3 starts"):
        children.watch_once()
