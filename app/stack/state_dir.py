"""The state directory of a local stack: its data, logs and API key, and the lock that excludes a second stack."""

import fcntl
import json
import os
import random
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from app.errors import UserFacingError

# The kernel gives outgoing connections ports above this range, so that they take no port of a server.
PORT_RANGE = range(20_000, 32_000)


class StackError(UserFacingError):
    """The stack can't start or continue. The message gives the reason and the file to look into."""


@dataclass(frozen=True)
class StateDir:
    """The files of one stack, below `path`."""

    path: Path

    def create(self) -> None:
        """Create the folders."""
        self.path.mkdir(parents=True, exist_ok=True)
        # Other accounts may pass through the folder, since PostgreSQL may run under one. They can't list it.
        self.path.chmod(0o711)
        self.logs.mkdir(mode=0o700, exist_ok=True)

    @property
    def logs(self) -> Path:
        """Return the folder of the logs."""
        return self.path / "logs"

    @property
    def key_file(self) -> Path:
        """Return the file with the API key."""
        return self.path / "api_key"

    @property
    def state_file(self) -> Path:
        """Return the file that describes the running stack to other commands."""
        return self.path / "stack.json"

    def log_file(self, name: str) -> Path:
        """Return the log of the process of this name."""
        return self.logs / f"{name}.log"

    def read_api_key(self) -> str | None:
        """Return the API key, or None before the first start."""
        return self.key_file.read_text().strip() if self.key_file.exists() else None

    def read_state(self) -> dict:
        """Return the state of the running stack: pid, url, processes and addresses; empty if no stack is running."""
        try:
            state = json.loads(self.state_file.read_text())
        except (OSError, ValueError):
            return {}
        # A stack that was killed leaves its file behind.
        return state if _process_exists(state.get("pid", 0)) else {}

    def write_state(self, state: dict) -> None:
        """Write the state of the running stack for other commands."""
        write_private(self.state_file, json.dumps(state, indent=1))

    def read_or_create_secret(self, name: str) -> str:
        """Return the password of this name, which is generated at the first call."""
        path = self.path / name
        if not path.exists():
            write_private(path, secrets.token_hex(24))
        return path.read_text().strip()

    def acquire_lock(self) -> int | None:
        """Lock the directory for one stack. Return the file descriptor of the lock, or None if another stack holds it.

        The kernel releases the lock when the last process with this descriptor has ended.
        """
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read. A reader sees the old or the new file, never a part."""
    temporary_path = path.with_name(path.name + ".part")
    temporary_path.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    temporary_path.replace(path)


def _process_exists(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def free_port(host: str = "127.0.0.1", preferred: int | None = None) -> int:
    """Return a port without a listener: the preferred port if it is free, else a random one.

    Raises:
        StackError: No port is free, or the host is not an address of this machine.
    """
    for port in [*([preferred] if preferred else []), *random.SystemRandom().sample(PORT_RANGE, 200)]:
        if port_is_free(host, port):
            return port
    raise StackError(f"There is no free port on {host} between {PORT_RANGE.start} and {PORT_RANGE.stop}.")


def port_is_free(host: str, port: int) -> bool:
    """Return whether a server can bind the port now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Servers set this option, too. Without it a port in TIME_WAIT from the last stack looks occupied.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
