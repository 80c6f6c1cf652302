"""One process of the stack: how it is started, where it writes, how it is asked to end."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from app.stack.guard import Group

LAUNCH = Path(__file__).with_name("launch.py")


@dataclass(frozen=True)
class Spec:
    """What to run. `stop` asks it to end, `quit` hurries it; phase 1 (the servers) ends after phase 0."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    account: str = "-"
    phase: int = 0
    stop: int = signal.SIGTERM
    quit: int = signal.SIGKILL


@dataclass
class Child:
    """A started process. `starts` counts how often it was started in this stack, `started` is the last time."""

    spec: Spec
    log: Path
    popen: subprocess.Popen
    started: float = 0.0
    starts: int = 1

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    @property
    def group(self) -> Group:
        return Group(self.pid, self.spec.phase, self.spec.stop, self.spec.quit)

    def ending(self) -> str:
        """Words for a process that ended: its status and the last lines it wrote."""
        code = self.popen.returncode
        how = f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with status {code}"
        return f"{self.spec.name} {how}. Its log is {self.log}:\n{tail(self.log)}"


def launched(argv: tuple[str, ...], account: str, death: int) -> list[str]:
    """The command that starts `argv` through launch.py, tied to this process."""
    return [sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), str(int(death)), account, "--", *argv]


def spawn(spec: Spec, log: Path) -> Child:
    """Start it in a session of its own: the terminal's Ctrl-C reaches the supervisor alone."""
    with log.open("ab") as output:
        popen = subprocess.Popen(
            launched(spec.argv, spec.account, spec.quit),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=spec.env,
            start_new_session=True,
        )
    return Child(spec, log, popen)


def rotate(log: Path) -> None:
    """Keep the last stack's log beside the new one."""
    if log.exists():
        log.replace(log.with_name(log.name + ".1"))


def tail(log: Path, lines: int = 15) -> str:
    try:
        text = log.read_bytes()[-20_000:].decode("utf-8", "replace")
    except OSError:
        return "  (no log)"
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:]) or "  (nothing written)"
