"""The entry of a process: it ends with its parent, and changes the account where it must."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.stack import watchdog
from app.stack.process import ENTRY_PROGRAM, ProcessSpec, entry_command, start_process
from tests.waiting import PROCESS_SECONDS, until

linux = pytest.mark.skipif(sys.platform != "linux", reason="uses the kernel's parent-death signal")
root = pytest.mark.skipif(os.geteuid() != 0, reason="gives root away")
NOBODY = 65534


@linux
def test_a_process_dies_with_the_parent_that_was_killed():
    code = (
        "import subprocess, sys, os, time\n"
        f"argv = [sys.executable, {str(ENTRY_PROGRAM)!r}, str(os.getpid()), '15', '-', '--', '/bin/sleep', '600']\n"
        "child = subprocess.Popen(argv, start_new_session=True)\n"
        "print(child.pid, flush=True); time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    until(lambda: _program(child) == "sleep", message="entry.py has not become the program")
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: not _runs(child))


def test_a_process_whose_parent_is_gone_already_does_not_begin():
    process = subprocess.run(
        [sys.executable, str(ENTRY_PROGRAM), "1", "15", "-", "--", "/bin/echo", "began"], capture_output=True, text=True
    )
    assert process.returncode != 0
    assert "began" not in process.stdout


@root
def test_another_account_can_enter_a_closed_folder_only_with_reach(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "word").write_text("inside")
    tmp_path.chmod(0o755)

    def read(account: str) -> subprocess.CompletedProcess:
        argv = entry_command(("/bin/sh", "-c", f"id -u; cat {closed}/word"), account, signal.SIGKILL)
        return subprocess.run(argv, capture_output=True, text=True, cwd="/")

    assert read(f"{NOBODY}:{NOBODY}").stdout == f"{NOBODY}\n"
    assert read(f"{NOBODY}:{NOBODY}:reach").stdout == f"{NOBODY}\ninside"


def test_a_started_process_leads_a_group_and_writes_to_its_log(tmp_path):
    log = tmp_path / "one.log"
    spec = ProcessSpec("one", ("/bin/sh", "-c", "echo $WORD; exit 3"), env={**os.environ, "WORD": "hello"})
    child = start_process(spec, log)
    assert child.popen.wait(PROCESS_SECONDS) == 3
    assert "ended with status 3" in child.describe_end()
    assert "hello" in child.describe_end()
    assert not watchdog.is_alive(child.pid, lambda: None)


def _program(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
