"""Ending process groups: asked first, urged next, killed last, and in phases."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.stack import guard
from app.stack.guard import Group, Patience, stop_groups
from tests.waiting import PROCESS_SECONDS, until

# A step that is to fail is short; the step that is to succeed may take as long as the machine needs.
SHORT, LONG = 0.3, 120.0

OBEYS = "import time; print('up', flush=True); time.sleep(600)"
# No core: writing one takes longer than the guard waits on a busy machine. The default first: a shell that starts
# the tests in the background lets them ignore SIGQUIT, and every child inherits that.
DEAF_TO = (
    "import resource, signal, time; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); "
    "signal.signal(signal.SIGQUIT, signal.SIG_DFL); signal.signal(signal.{}, signal.SIG_IGN); "
    "print('up', flush=True); time.sleep(600)"
)
DEAF = (
    "import signal, time\nfor n in (15, 3): signal.signal(n, signal.SIG_IGN)\nprint('up', flush=True); time.sleep(600)"
)
LEAVES_A_CHILD = (
    "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
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


def group(process: subprocess.Popen, phase: int = 0) -> Group:
    return Group(process.pid, phase, signal.SIGTERM, signal.SIGQUIT)


@pytest.mark.parametrize(
    ("code", "patience", "ended_by"),
    [
        (OBEYS, Patience((LONG, LONG)), signal.SIGTERM),
        (DEAF_TO.format("SIGTERM"), Patience((SHORT, SHORT), urgent=LONG), signal.SIGQUIT),
        (DEAF, Patience((SHORT, SHORT), SHORT, killed=LONG), signal.SIGKILL),
    ],
)
def test_each_process_is_ended_as_gently_as_it_allows(start, code, patience, ended_by):
    process = start(code)
    stop_groups([group(process)], process.poll, patience)
    assert process.returncode == -ended_by


def test_what_a_leader_left_behind_is_killed(start):
    process = start(LEAVES_A_CHILD)
    process.wait()
    assert guard.alive(process.pid, lambda: None)
    stop_groups([group(process)], patience=Patience((SHORT, SHORT), SHORT))
    # An orphan that was killed stays in the list of processes until init has collected it.
    until(lambda: not guard.alive(process.pid, lambda: None))


def test_servers_end_after_those_who_use_them(start):
    user, server = start(DEAF_TO.format("SIGTERM")), start(OBEYS)
    order = []

    def reap():
        for name, process in (("user", user), ("server", server)):
            if process.poll() is not None and name not in order:
                order.append(name)

    stop_groups([group(server, phase=1), group(user, phase=0)], reap, Patience((SHORT, LONG), urgent=LONG))
    assert order == ["user", "server"]


def test_the_guard_ends_what_it_was_told_of_when_its_pipe_breaks(start):
    kept, forgotten = start(OBEYS), start(OBEYS)
    program = Path(guard.__file__)
    watching = subprocess.Popen([sys.executable, "-I", "-S", program], stdin=subprocess.PIPE, text=True)
    for process in (kept, forgotten):
        watching.stdin.write(f"+ {process.pid} 0 15 3\n")
    watching.stdin.write(f"- {forgotten.pid}\n")
    watching.stdin.close()
    assert kept.wait(PROCESS_SECONDS) == -signal.SIGTERM
    assert watching.wait(PROCESS_SECONDS) == 0
    assert forgotten.poll() is None
