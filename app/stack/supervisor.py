"""A whole Seedbed on one machine: which parts are started, in which order, and when it is ready."""

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
from app.stack.children import Children, RestartPolicy
from app.stack.home import Home, StackError, free_port, port_is_free
from app.stack.processes import Child, launched, rotate, tail

PREFERRED_PORT = 8000
# A loaded machine needs minutes. A process that ends meanwhile is noticed at once.
READY_SECONDS = 300.0
HOME_SECONDS = 12.0


class Stack:
    """`with Stack(home=…) as stack:` starts it, gives stack.url and stack.api_key, and ends every process.

    `only` names the processes to start (see plan.ALL). A database_url, redis_url or config switches
    that part to a real one. `environment` goes to every process, `simulator_options` to the teacher.
    `clock` and `sleep` are those of the time module.
    """

    def __init__(
        self,
        home: Path | str,
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
        self.home = Home(Path(home).resolve())
        self.only = frozenset(only)
        if unknown := self.only - set(plan.ALL):
            raise ValueError(f"no such process: {', '.join(sorted(unknown))}")
        self.host, self.port = host, port
        self.database_url, self.redis_url, self.config = database_url, redis_url, config
        self.teacher_url: str | None = None
        self.durable, self.simulator_options, self.say = durable, tuple(simulator_options), say
        self.environment = dict(environment or {})
        self._restarts, self._clock, self._sleep = restarts, clock, sleep
        self._children: Children | None = None
        self._lock: int | None = None

    @property
    def url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{host}:{self.port}"

    @property
    def api_key(self) -> str | None:
        return self.home.read_key()

    @property
    def processes(self) -> dict[str, Child]:
        return self._children.processes if self._children else {}

    def __enter__(self) -> "Stack":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when the API is ready and every process lives. Raises StackError, and leaves nothing behind."""
        try:
            self._take_home()
            self._start_servers()
            env = self._configure()
            self._start_api(env)
            self._prepare(env)
            self._start_workers(env)
            self._wait_ready()
        except BaseException:
            self.stop()
            raise
        threading.Thread(target=self._children.watch, name="stack-watch", daemon=True).start()

    def stop(self) -> None:
        """End everything, in order. Safe to call twice."""
        if self._children:
            self._children.stop()
        if self._lock is not None:
            self.home.state_file.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def wait(self, seconds: float | None = None) -> None:
        """Until the stack ends, or for some seconds. Raises StackError if it ended because a process kept ending."""
        until = None if seconds is None else time.monotonic() + seconds
        # In short waits, so that signals come through.
        while not self._children.ended.wait(0.2) and (until is None or time.monotonic() < until):
            pass
        if self._children.failure:
            self.stop()
            raise self._children.failure

    def restart(self, name: str) -> None:
        """Start a process that has ended again, without the wait that the watch would make."""
        self._children.start_again(name)

    def _take_home(self) -> None:
        self.home.path.mkdir(parents=True, exist_ok=True)
        until = self._clock() + HOME_SECONDS
        while (lock := self.home.lock()) is None:
            state = self.home.read_state()
            # Without a living stack the lock is held by a guard that still clears up, or by one that starts.
            if state or self._clock() > until:
                where = f" at {state['url']}" if state else ""
                raise StackError(f"A stack already runs on {self.home.path}{where}.")
            self._sleep(0.1)
        self._lock = lock
        self.home.prepare()
        self._children = Children(self.home, lock, self.say, self._restarts, self._clock)

    def _start_servers(self) -> None:
        env = plan.environment({})
        if "redis" in self.only and not self.redis_url:
            spec, self.redis_url = redis.prepare(self.home)
            self._children.start(replace(spec, env=env))
        if "postgres" in self.only and not self.database_url:
            spec, self.database_url = postgres.prepare(self.home, self.durable)
            self._children.start(replace(spec, env=env))

    def _configure(self) -> dict[str, str]:
        """The environment of everything else. Starts the simulated teacher where it is wanted."""
        changes = {"SEEDBED_HOME": str(self.home.path)}
        addresses = {"DATABASE_URL": self.database_url, "REDIS_URL": self.redis_url}
        changes |= {name: url for name, url in addresses.items() if url}
        config = self.config
        if "simulator" in self.only and teacher.names_no_teacher(config):
            port = free_port()
            self.teacher_url = f"http://127.0.0.1:{port}/v1"
            config = teacher.write_config(self.home, config, self.teacher_url)
            spec = plan.simulator(port, self.simulator_options)
            self._children.start(replace(spec, env=plan.environment(self.environment)))
        if config:
            changes["SEEDBED_CONFIG"] = str(config.resolve())
        return plan.environment(changes | self.environment)

    def _start_api(self, env: dict[str, str]) -> None:
        if "api" not in self.only:
            return
        if self.port is None:
            self.port = free_port(self.host, PREFERRED_PORT)
        elif not port_is_free(self.host, self.port):
            raise StackError(f"Port {self.port} on {self.host} is taken. Choose another with --port.")
        self._children.start(replace(plan.api(self.host, self.port), env=env))

    def _prepare(self, env: dict[str, str]) -> None:
        """Wait for the servers; then migrations, and the key."""
        if "postgres" in self.processes:
            self._until("postgres", lambda: postgres.answers(self.database_url))
        if "redis" in self.processes:
            self._until("redis", lambda: redis.answers(self.redis_url))
        if not self.only - {*plan.SERVERS, "simulator"}:
            return
        self.say("bringing the database up to date")
        log = self.home.log("prepare")
        rotate(log)
        with log.open("wb") as output:
            command = launched(plan.prepare(self.home.key_file), "-", 9)
            done = subprocess.run(command, env=env, stdout=output, stderr=subprocess.STDOUT, check=False)
        if done.returncode != 0:
            raise StackError(f"The database could not be prepared. The log is {log}:\n{tail(log)}")

    def _start_workers(self, env: dict[str, str]) -> None:
        for name in plan.WORKERS:
            if name in self.only:
                self._children.start(replace(plan.worker(name), env=env))

    def _wait_ready(self) -> None:
        if "api" in self.only:
            self.say("waiting for the API")
            self._until("the API", lambda: _ready(self.url))
        self._children.check()
        pids = {name: child.pid for name, child in self.processes.items()}
        state = {"pid": os.getpid(), "url": self.url, "processes": pids}
        self.home.write_state(state | {"database_url": self.database_url, "redis_url": self.redis_url})

    def _until(self, name: str, probe: Callable[[], bool]) -> None:
        until = self._clock() + READY_SECONDS
        while not probe():
            self._children.check()
            if self._clock() > until:
                raise StackError(f"{name} was not ready after {READY_SECONDS:g} s. The logs are in {self.home.logs}.")
            self._sleep(0.05)


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False
