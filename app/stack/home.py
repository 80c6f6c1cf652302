"""The folder of one local stack: its data, its logs, its key, and the lock that keeps a second stack out."""

import fcntl
import json
import os
import random
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from app.errors import UserFacingError

# Below the range from which the kernel gives outgoing connections their ports.
PORTS = range(20_000, 32_000)


class StackError(UserFacingError):
    """The stack can't start or go on. The message says why, and where to look."""


@dataclass(frozen=True)
class Home:
    path: Path

    def prepare(self) -> None:
        """Make the folders. They can be passed through by others: PostgreSQL may run under another account."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o711)
        self.logs.mkdir(mode=0o700, exist_ok=True)

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def key_file(self) -> Path:
        return self.path / "api_key"

    @property
    def state_file(self) -> Path:
        return self.path / "stack.json"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def read_key(self) -> str | None:
        return self.key_file.read_text().strip() if self.key_file.exists() else None

    def read_state(self) -> dict:
        """What the running stack wrote down; empty when none runs on this home."""
        try:
            state = json.loads(self.state_file.read_text())
        except (OSError, ValueError):
            return {}
        return state if _runs(state.get("pid", 0)) else {}

    def write_state(self, state: dict) -> None:
        write_private(self.state_file, json.dumps(state, indent=1))

    def secret(self, name: str) -> str:
        """A password of this home, made once."""
        path = self.path / name
        if not path.exists():
            write_private(path, secrets.token_hex(24))
        return path.read_text().strip()

    def lock(self) -> int | None:
        """Take the home for one stack. Returns the lock's file descriptor, or None when another holds it."""
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    part.replace(path)


def _runs(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def free_port(host: str = "127.0.0.1", wanted: int | None = None) -> int:
    """A port nobody listens on: the wanted one if it is free."""
    for port in [*([wanted] if wanted else []), *random.SystemRandom().sample(PORTS, 200)]:
        if port_is_free(host, port):
            return port
    raise StackError(f"no free port on {host} between {PORTS.start} and {PORTS.stop}")


def port_is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: without it a port in TIME_WAIT from the last stack counts as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
