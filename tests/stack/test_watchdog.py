"""Stopping process groups by the stop signal, the quit signal and SIGKILL, and in phases."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.stack import watchdog
from app.stack.watchdog import ProcessGroup, StopTimeouts, stop_groups
from tests.waiting import PROCESS_SECONDS, until

# A step that is to fail is short; the step that is to succeed may take as long as the machine needs.
SHORT, LONG = 0.3, 120.0

OBEDIENT = "import time; print('up', flush=True); time.sleep(600)"
# No core: writing one takes longer than the watchdog waits on a busy machine. The default first: a shell that starts
# the tests in the background lets them ignore SIGQUIT, and every child inherits that.
IGNORES_SIGNAL = (
    "import resource, signal, time; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); "
    "signal.signal(signal.SIGQUIT, signal.SIG_DFL); signal.signal(signal.{}, signal.SIG_IGN); "
    "print('up', flush=True); time.sleep(600)"
)
IGNORES_ALL_SIGNALS = (
    "import signal, time\nfor n in (15, 3): signal.signal(n, signal.SIG_IGN)\nprint('up', flush=True); time.sleep(600)"
)
LEAVES_A_CHILD = (
    "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
    "print('up', flush=True)"
)


@pytest.fixture
def start():
    processes = []

    def start_process(code: str) -> subprocess.Popen:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
        processes.append(process)
        assert process.stdout.readline() == b"up\n"
        return process

    yield start_process
    for process in processes:
        process.stdout.close()
        process.kill()
        process.wait()


def group(process: subprocess.Popen, phase: int = 0) -> ProcessGroup:
    return ProcessGroup(process.pid, phase, signal.SIGTERM, signal.SIGQUIT)


@pytest.mark.parametrize(
    ("code", "timeouts", "ended_by"),
    [
        (OBEDIENT, StopTimeouts((LONG, LONG)), signal.SIGTERM),
        (IGNORES_SIGNAL.format("SIGTERM"), StopTimeouts((SHORT, SHORT), quit_seconds=LONG), signal.SIGQUIT),
        (IGNORES_ALL_SIGNALS, StopTimeouts((SHORT, SHORT), SHORT, kill_seconds=LONG), signal.SIGKILL),
    ],
)
def test_each_process_is_stopped_by_the_first_signal_that_it_obeys(start, code, timeouts, ended_by):
    process = start(code)
    stop_groups([group(process)], process.poll, timeouts)
    assert process.returncode == -ended_by


def test_members_of_a_group_whose_leader_has_ended_are_killed(start):
    process = start(LEAVES_A_CHILD)
    process.wait()
    assert watchdog.is_alive(process.pid, lambda: None)
    stop_groups([group(process)], timeouts=StopTimeouts((SHORT, SHORT), SHORT))
    # An orphan that was killed stays in the list of processes until init has collected it.
    until(lambda: not watchdog.is_alive(process.pid, lambda: None))


def test_servers_end_after_the_processes_that_use_them(start):
    user, server = start(IGNORES_SIGNAL.format("SIGTERM")), start(OBEDIENT)
    order = []

    def reap():
        for name, process in (("user", user), ("server", server)):
            if process.poll() is not None and name not in order:
                order.append(name)

    stop_groups([group(server, phase=1), group(user, phase=0)], reap, StopTimeouts((SHORT, LONG), quit_seconds=LONG))
    assert order == ["user", "server"]


def test_the_watchdog_stops_the_reported_processes_when_its_pipe_breaks(start):
    reported, forgotten = start(OBEDIENT), start(OBEDIENT)
    program = Path(watchdog.__file__)
    watchdog_process = subprocess.Popen([sys.executable, "-I", "-S", program], stdin=subprocess.PIPE, text=True)
    for process in (reported, forgotten):
        watchdog_process.stdin.write(f"+ {process.pid} 0 15 3\n")
    watchdog_process.stdin.write(f"- {forgotten.pid}\n")
    watchdog_process.stdin.close()
    assert reported.wait(PROCESS_SECONDS) == -signal.SIGTERM
    assert watchdog_process.wait(PROCESS_SECONDS) == 0
    assert forgotten.poll() is None
