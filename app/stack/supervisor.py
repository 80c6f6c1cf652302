"""The stack of one machine: which processes it starts, in which order, and when it is ready."""

import os
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from app.stack import plan, postgres, redis, teacher
from app.stack.process import Process, entry_command, read_log_tail, rotate_log
from app.stack.processes import Processes, RestartPolicy
from app.stack.state_dir import StackError, StateDir, free_port, port_is_free

PREFERRED_PORT = 8000
# A loaded machine needs minutes. A process that ends in the meantime is noticed at once.
READY_SECONDS = 300.0
LOCK_SECONDS = 12.0


class Stack:
    """The processes of Seedbed on this machine.

    `with Stack(path) as stack:` starts them, has stack.url and stack.api_key, and stops every process at the end.

    Args:
        state_dir: The directory of data, logs and key. One stack at a time can use it.
        only: The names of the processes to start, from plan.ALL.
        host: The address on which the API listens.
        port: The port of the API; None chooses a free one.
        database_url: A PostgreSQL server to use instead of an own one.
        redis_url: A Redis server to use instead of an own one.
        config: The operator's configuration.
        durable: Whether PostgreSQL writes through to the disk. Tests run faster without it.
        environment: Variables for every process.
        simulator_options: Options of the simulated teacher's command line.
        say: Receives messages for people.
        restarts: When a process that ended is restarted.
        clock: Returns seconds, as time.monotonic does.
        sleep: Waits for seconds, as time.sleep does.

    Raises:
        ValueError: `only` has an unknown name.
    """

    def __init__(
        self,
        state_dir: Path | str,
        *,
        only: Iterable[str] = plan.ALL,
        host: str = "127.0.0.1",
        port: int | None = None,
        database_url: str | None = None,
        redis_url: str | None = None,
        config: Path | None = None,
        durable: bool = True,
        environment: Mapping[str, str] | None = None,
        simulator_options: Sequence[str] = (),
        say: Callable[[str], object] = lambda line: None,
        restarts: RestartPolicy = RestartPolicy(),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.state_dir = StateDir(Path(state_dir).resolve())
        self.only = frozenset(only)
        if unknown := self.only - set(plan.ALL):
            raise ValueError(f"There is no process {', '.join(sorted(unknown))}")
        self.host, self.port = host, port
        self.database_url, self.redis_url, self.config = database_url, redis_url, config
        self.teacher_url: str | None = None
        self.durable, self.simulator_options, self.say = durable, tuple(simulator_options), say
        self.environment = dict(environment or {})
        self._restarts, self._clock, self._sleep = restarts, clock, sleep
        self._processes: Processes | None = None
        self._lock: int | None = None

    @property
    def url(self) -> str:
        """Return the URL of the API."""
        # A wildcard address is one to listen on, not one to connect to.
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{host}:{self.port}"

    @property
    def api_key(self) -> str | None:
        """Return the API key of the state directory, or None before the first start."""
        return self.state_dir.read_api_key()

    @property
    def processes(self) -> dict[str, Process]:
        """Return the processes by name; ended ones stay until they are restarted."""
        return self._processes.processes if self._processes else {}

    def __enter__(self) -> "Stack":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the processes, and return when the API is ready.

        Raises:
            StackError: A process does not start. All others are stopped again.
        """
        try:
            self._lock_state_dir()
            self._start_servers()
            env = self._configure()
            self._start_api(env)
            self._prepare_database(env)
            self._start_workers(env)
            self._wait_ready()
        except BaseException:
            self.stop()
            raise
        threading.Thread(target=self._processes.monitor, name="stack-watch", daemon=True).start()

    def stop(self) -> None:
        """Stop all processes, in order. The call may be repeated."""
        if self._processes:
            self._processes.stop()
        if self._lock is not None:
            self.state_dir.state_file.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the stack ends, or for some seconds.

        Raises:
            StackError: The stack ended because a process failed too often.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        # The waits are short, so that Python can handle signals in between.
        while not self._processes.ended.wait(0.2) and (deadline is None or time.monotonic() < deadline):
            pass
        if self._processes.failure:
            self.stop()
            raise self._processes.failure

    def restart(self, name: str) -> None:
        """Restart a process that has ended, without the delay of the monitor."""
        self._processes.restart(name)

    def _lock_state_dir(self) -> None:
        self.state_dir.path.mkdir(parents=True, exist_ok=True)
        deadline = self._clock() + LOCK_SECONDS
        while (lock := self.state_dir.acquire_lock()) is None:
            state = self.state_dir.read_state()
            # Without a running stack the lock belongs to a watchdog that stops processes, or to a stack that starts.
            if state or self._clock() > deadline:
                where = f" at {state['url']}" if state else ""
                raise StackError(f"A stack already runs on {self.state_dir.path}{where}.")
            self._sleep(0.1)
        self._lock = lock
        # Only the owner of the lock may create files.
        self.state_dir.create()
        self._processes = Processes(self.state_dir, lock, self.say, self._restarts, self._clock)

    def _start_servers(self) -> None:
        env = plan.environment({})
        if "redis" in self.only and not self.redis_url:
            spec, self.redis_url = redis.configure(self.state_dir)
            self._processes.start(replace(spec, env=env))
        if "postgres" in self.only and not self.database_url:
            spec, self.database_url = postgres.configure(self.state_dir, self.durable)
            self._processes.start(replace(spec, env=env))

    def _configure(self) -> dict[str, str]:
        """Start the simulated teacher if no teacher is configured. Return the environment of the other processes."""
        changes = {"SEEDBED_HOME": str(self.state_dir.path)}
        addresses = {"DATABASE_URL": self.database_url, "REDIS_URL": self.redis_url}
        changes |= {name: url for name, url in addresses.items() if url}
        config = self.config
        if "simulator" in self.only and teacher.names_no_teacher(config):
            port = free_port()
            self.teacher_url = f"http://127.0.0.1:{port}/v1"
            config = teacher.write_config(self.state_dir, config, self.teacher_url)
            spec = plan.simulator(port, self.simulator_options)
            self._processes.start(replace(spec, env=plan.environment(self.environment)))
        if config:
            changes["SEEDBED_CONFIG"] = str(config.resolve())
        return plan.environment(changes | self.environment)

    def _start_api(self, env: dict[str, str]) -> None:
        if "api" not in self.only:
            return
        if self.port is None:
            self.port = free_port(self.host, PREFERRED_PORT)
        elif not port_is_free(self.host, self.port):
            raise StackError(f"Another program uses port {self.port} on {self.host}. Choose another port with --port.")
        self._processes.start(replace(plan.api(self.host, self.port), env=env))

    def _prepare_database(self, env: dict[str, str]) -> None:
        """Wait for the servers, then migrate the database and create the API key."""
        if "postgres" in self.processes:
            self._wait_until("postgres", lambda: postgres.is_ready(self.database_url))
        if "redis" in self.processes:
            self._wait_until("redis", lambda: redis.is_ready(self.redis_url))
        if not self.only - {*plan.SERVERS, "simulator"}:
            return
        self.say("migrating the database")
        log_file = self.state_dir.log_file("prepare")
        rotate_log(log_file)
        with log_file.open("wb") as output:
            command = entry_command(plan.prepare(self.state_dir.key_file), "-", 9)
            process = subprocess.run(command, env=env, stdout=output, stderr=subprocess.STDOUT, check=False)
        if process.returncode != 0:
            raise StackError(f"The database could not be prepared. The log is {log_file}:\n{read_log_tail(log_file)}")

    def _start_workers(self, env: dict[str, str]) -> None:
        for name in plan.WORKERS:
            if name in self.only:
                self._processes.start(replace(plan.worker(name), env=env))

    def _wait_ready(self) -> None:
        if "api" in self.only:
            self.say("waiting for the API")
            self._wait_until("the API", lambda: _api_is_ready(self.url))
        self._processes.raise_if_ended()
        pids = {name: process.pid for name, process in self.processes.items()}
        state = {"pid": os.getpid(), "url": self.url, "processes": pids}
        self.state_dir.write_state(state | {"database_url": self.database_url, "redis_url": self.redis_url})

    def _wait_until(self, name: str, probe: Callable[[], bool]) -> None:
        deadline = self._clock() + READY_SECONDS
        while not probe():
            self._processes.raise_if_ended()
            if self._clock() > deadline:
                raise StackError(
                    f"{name} was not ready after {READY_SECONDS:g} s. The logs are in {self.state_dir.logs}."
                )
            self._sleep(0.05)


def _api_is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False
