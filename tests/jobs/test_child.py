"""The training child as a real process: what it may see, what is read from it, and that none is left behind."""

import errno
import os
import signal
import textwrap
from collections.abc import Callable, Iterator

import psutil
import pytest

from app.finetunes.training import explain
from app.jobs.child import STDERR_BYTES, Child, environment
from tests.waiting import PROCESS_SECONDS, until


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[[str], Child]]:
    """Starts a child whose recipe is the code given: `-m` looks in the working directory first."""
    started = []

    def start(recipe: str) -> Child:
        folder = tmp_path / "workers" / "recipes"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").touch()
        (folder / "__init__.py").touch()
        (folder / "sft.py").write_text(textwrap.dedent(recipe), "utf-8")
        started.append(Child(tmp_path / "job.json"))
        return started[-1]

    yield start
    for child in started:
        child.end()


def events(child: Child) -> list[dict]:
    events: list[dict] = []

    def read_to_end() -> bool:
        while event := child.next_event(0.2):
            events.append(event)
        return event is None

    until(read_to_end, message=events)
    return events


@pytest.mark.parametrize(
    "name",
    ["DATABASE_URL", "REDIS_URL", "SEEDBED_API_KEY", "OPENAI_API_KEY", "HF_TOKEN", "HF_HUB_TOKEN", "AWS_SECRET_KEY"],
)
def test_no_secret_reaches_the_child(name):
    assert name not in environment({name: "secret", "PATH": "/bin"})


@pytest.mark.parametrize("name", ["PATH", "HOME", "TMPDIR", "CUDA_VISIBLE_DEVICES", "HF_HOME", "HF_HUB_OFFLINE"])
def test_what_a_training_needs_reaches_it(name):
    assert environment({name: "value"})[name] == "value"


def test_the_real_recipe_is_found_and_refuses_a_job_that_is_not_there(tmp_path):
    child = Child(tmp_path / "job.json")
    (error,) = events(child)
    assert (error["event"], error["kind"], child.wait()) == ("error", "invalid_job", 2)


def test_events_are_read_and_other_lines_are_passed_over(start):
    child = start("""
        print('{"event": "stage", "stage": "load"}')
        print("chatter"); print("[1, 2]"); print()
        import sys; sys.stdout.buffer.write(b"\\xff\\xfe\\n")
        print('{"event": "done"}')
    """)
    assert [event["event"] for event in events(child)] == ["stage", "done"]
    assert child.wait() == 0


def test_the_last_words_are_whole_bounded_and_storable(start):
    child = start("""
        import sys
        sys.stderr.write("x" * 1_000_000 + "\\0 the end")
        sys.exit(1)
    """)
    assert events(child) == []
    assert child.wait() == 1
    assert child.stderr_tail.endswith(" the end")
    assert "\0" not in child.stderr_tail and len(child.stderr_tail) <= STDERR_BYTES


def test_a_killed_child_tells_its_signal(start):
    child = start("import os; os.kill(os.getpid(), 9)")
    assert events(child) == []
    assert child.wait() == -signal.SIGKILL


def test_a_process_left_behind_neither_holds_up_the_end_nor_stays(start):
    child = start("""
        import subprocess
        left = subprocess.Popen(["sleep", "600"])
        print('{"event": "done", "left": %d}' % left.pid)
    """)
    (done,) = events(child)
    assert psutil.pid_exists(done["left"])
    child.end()
    wait_for_end(done["left"])


def test_a_stubborn_child_is_ended_with_all_its_group(start):
    child = start("""
        import signal, subprocess, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print('{"event": "stage", "left": %d}' % subprocess.Popen(["sleep", "600"]).pid, flush=True)
        time.sleep(600)
    """)
    event = child.next_event(PROCESS_SECONDS)
    child.end()
    assert child.wait() == -signal.SIGKILL
    wait_for_end(event["left"])


def test_ending_twice_is_no_error(start):
    child = start("import time; time.sleep(600)")
    child.end()
    child.end()


def test_the_child_is_in_a_group_of_its_own(start):
    child = start("""
        import os, time
        print('{"event": "stage", "group": %d}' % os.getpgid(0), flush=True)
        time.sleep(600)
    """)
    assert child.next_event(PROCESS_SECONDS)["group"] != os.getpgid(0)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "full", "/srv/secret"), "storage_full"),
        (OSError(errno.EDQUOT, "quota", "/srv/secret"), "storage_full"),
        (PermissionError(errno.EACCES, "denied", "/srv/secret"), "storage_unwritable"),
        (OSError(errno.EFBIG, "a limit", "/srv/secret"), "storage_full"),
        (NotADirectoryError(errno.ENOTDIR, "a file", "/srv/secret"), "storage_unwritable"),
        (OSError(errno.EIO, "broken", "/srv/secret"), "training_failed"),
        (RuntimeError("postgresql://user:secret@host"), "training_failed"),
    ],
)
def test_a_failure_has_a_reason_and_tells_nothing_of_the_machine(error, reason):
    told = explain(error)
    assert told.stop_reason == reason
    assert "secret" not in told.message


def wait_for_end(pid: int) -> None:
    """Until the process ends; one that nobody has reaped yet has ended, too."""
    until(lambda: not psutil.pid_exists(pid) or _is_zombie(pid))


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
