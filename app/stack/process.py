"""One process of the stack: its command, its log, and the signals that stop it."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from app.stack.watchdog import ProcessGroup

ENTRY_PROGRAM = Path(__file__).with_name("entry.py")


@dataclass(frozen=True)
class ProcessSpec:
    """A process to start.

    `account` has the form of entry.py. `stop_signal` asks for an orderly end and `quit_signal` for a faster one;
    phase 1 (the servers) ends after phase 0.
    """

    name: str
    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    account: str = "-"
    phase: int = 0
    stop_signal: int = signal.SIGTERM
    quit_signal: int = signal.SIGKILL


@dataclass
class Process:
    """A running or ended process.

    `start_count` says how often it was started in this stack, and `started_at` when it was started last, in seconds.
    """

    spec: ProcessSpec
    log_file: Path
    popen: subprocess.Popen
    started_at: float = 0.0
    start_count: int = 1

    @property
    def pid(self) -> int:
        """Return the process id, which is the id of its group, too."""
        return self.popen.pid

    @property
    def is_alive(self) -> bool:
        """Return whether the process is running."""
        return self.popen.poll() is None

    @property
    def watchdog_group(self) -> ProcessGroup:
        """Return the process as the watchdog knows it."""
        return ProcessGroup(self.pid, self.spec.phase, self.spec.stop_signal, self.spec.quit_signal)

    def describe_end(self) -> str:
        """Return a message on a process that ended: its status, its log file and the last lines of it."""
        code = self.popen.returncode
        verb = f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with status {code}"
        return f"{self.spec.name} {verb}. Its log is {self.log_file}:\n{read_log_tail(self.log_file)}"


def entry_command(argv: tuple[str, ...], account: str, death_signal: int) -> list[str]:
    """Return the command that starts `argv` through entry.py, so that it ends with this process."""
    return [
        sys.executable,
        "-I",
        "-S",
        str(ENTRY_PROGRAM),
        str(os.getpid()),
        str(int(death_signal)),
        account,
        "--",
        *argv,
    ]


def start_process(spec: ProcessSpec, log_file: Path) -> Process:
    """Start a process that writes to `log_file`."""
    with log_file.open("ab") as output:
        popen = subprocess.Popen(
            entry_command(spec.argv, spec.account, spec.quit_signal),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=spec.env,
            # The terminal's Ctrl-C reaches the supervisor alone, which stops the processes in order.
            start_new_session=True,
        )
    return Process(spec, log_file, popen)


def rotate_log(log_file: Path) -> None:
    """Keep the last log as NAME.log.1."""
    if log_file.exists():
        log_file.replace(log_file.with_name(log_file.name + ".1"))


def read_log_tail(log_file: Path, lines: int = 15) -> str:
    """Return the last lines of a log, indented."""
    try:
        text = log_file.read_bytes()[-20_000:].decode("utf-8", "replace")
    except OSError:
        return "  (there is no log)"
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:]) or "  (the log is empty)"
