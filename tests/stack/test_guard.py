"""Ending process groups: asked first, urged next, killed last, and in phases."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.stack import guard
from app.stack.guard import Group, stop_groups

OBEYS = "import time; print('up', flush=True); time.sleep(60)"
# No core: writing one takes longer than the guard waits on a busy machine. The default first: a shell that starts
# the tests in the background lets them ignore SIGQUIT, and every child inherits that.
DEAF_TO = (
    "import resource, signal, time; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); "
    "signal.signal(signal.SIGQUIT, signal.SIG_DFL); signal.signal(signal.{}, signal.SIG_IGN); "
    "print('up', flush=True); time.sleep(60)"
)
DEAF = (
    "import signal, time\nfor n in (15, 3): signal.signal(n, signal.SIG_IGN)\nprint('up', flush=True); time.sleep(60)"
)
LEAVES_A_CHILD = (
    "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
    "print('up', flush=True)"
)


@pytest.fixture
def start():
    started = []

    def run(code: str) -> subprocess.Popen:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
        started.append(process)
        assert process.stdout.readline() == b"up\n"
        return process

    yield run
    for process in started:
        process.stdout.close()
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(guard, "POLITE_SECONDS", (0.3, 0.3))
    monkeypatch.setattr(guard, "URGENT_SECONDS", 0.3)


def group(process: subprocess.Popen, phase: int = 0) -> Group:
    return Group(process.pid, phase, signal.SIGTERM, signal.SIGQUIT)


@pytest.mark.parametrize(
    ("code", "ended_by"),
    [
        (OBEYS, signal.SIGTERM),
        (DEAF_TO.format("SIGTERM"), signal.SIGQUIT),
        (DEAF, signal.SIGKILL),
    ],
)
def test_each_process_is_ended_as_gently_as_it_allows(start, code, ended_by):
    process = start(code)
    stop_groups([group(process)], process.poll)
    assert process.returncode == -ended_by


def test_what_a_leader_left_behind_is_killed(start):
    process = start(LEAVES_A_CHILD)
    process.wait()
    assert guard.alive(process.pid, lambda: None)
    stop_groups([group(process)])
    # An orphan that was killed stays in the list of processes until init has collected it.
    until = time.monotonic() + 10
    while guard.alive(process.pid, lambda: None) and time.monotonic() < until:
        time.sleep(0.05)
    assert not guard.alive(process.pid, lambda: None)


def test_servers_end_after_those_who_use_them(start):
    user, server = start(DEAF_TO.format("SIGTERM")), start(OBEYS)
    ended = {}

    def reap():
        for name, process in (("user", user), ("server", server)):
            if process.poll() is not None:
                ended.setdefault(name, time.monotonic())

    stop_groups([group(server, phase=1), group(user, phase=0)], reap)
    assert ended["user"] < ended["server"]


def test_the_guard_ends_what_it_was_told_of_when_its_pipe_breaks(start):
    kept, forgotten = start(OBEYS), start(OBEYS)
    program = Path(guard.__file__)
    watching = subprocess.Popen([sys.executable, "-I", "-S", program], stdin=subprocess.PIPE, text=True)
    for process in (kept, forgotten):
        watching.stdin.write(f"+ {process.pid} 0 15 3\n")
    watching.stdin.write(f"- {forgotten.pid}\n")
    watching.stdin.close()
    assert kept.wait(5) == -signal.SIGTERM
    assert watching.wait(5) == 0
    assert forgotten.poll() is None
