"""The stack with real servers: PostgreSQL and Redis are started, monitored, restarted and stopped."""

import os
import signal
import subprocess
import sys

import psutil
import psycopg
import pytest
from redis import Redis

from app.stack import Stack, StackError, plan
from app.stack.process import ProcessSpec
from app.stack.processes import RestartPolicy
from tests.waiting import until

SERVERS = plan.SERVERS


@pytest.fixture
def state_dir(tmp_path):
    return tmp_path / "home"


def servers_answer(stack: Stack) -> bool:
    with psycopg.connect(stack.database_url) as connection, Redis.from_url(stack.redis_url) as redis:
        return connection.execute("SELECT 1").fetchone() == (1,) and redis.ping()


def process_tree(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def running_processes(processes: list[psutil.Process]) -> list[psutil.Process]:
    # is_running notices a process id that now belongs to another process.
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def test_the_servers_answer_and_end_with_the_block(state_dir):
    with Stack(state_dir, only=SERVERS, durable=False) as stack:
        assert servers_answer(stack)
        assert set(stack.processes) == set(SERVERS)
        started = [member for process in stack.processes.values() for member in process_tree(process.pid)]
        assert len(started) > len(SERVERS)
    assert running_processes(started) == []


def test_data_outlives_the_stack(state_dir):
    with Stack(state_dir, only=SERVERS) as stack, psycopg.connect(stack.database_url) as connection:
        connection.execute("CREATE TABLE kept (n int)")
    with Stack(state_dir, only=SERVERS) as stack, psycopg.connect(stack.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_two_stacks_run_side_by_side_but_not_on_one_state_directory(state_dir, tmp_path):
    with (
        Stack(state_dir, only=SERVERS, durable=False) as first,
        Stack(tmp_path / "two", only=SERVERS, durable=False) as second,
    ):
        assert servers_answer(first) and servers_answer(second)
        assert first.database_url != second.database_url
        with pytest.raises(StackError, match="already runs"):
            Stack(state_dir, only=SERVERS, sleep=lambda _: pytest.fail("the start waited for a running stack")).start()
        assert servers_answer(first)


def test_a_server_that_is_killed_is_restarted_with_its_address(state_dir):
    messages = []
    with Stack(state_dir, only=SERVERS, say=messages.append) as stack:
        for name in SERVERS:
            before = stack.processes[name].pid
            os.kill(before, signal.SIGKILL)
            until(lambda name=name, before=before: stack.processes[name].pid != before)
        until(lambda: _tried(servers_answer, stack))
    assert any("postgres was ended by signal 9" in line for line in messages)


def test_a_process_that_keeps_ending_stops_the_stack_with_the_path_of_its_log(state_dir):
    with Stack(state_dir, only=SERVERS, durable=False, restarts=RestartPolicy(max_starts=1)) as stack:
        stack._processes.start(
            ProcessSpec("broken", ("/bin/sh", "-c", "echo no such thing; exit 7"), env=dict(os.environ))
        )
        with pytest.raises(StackError, match="no such thing") as error:
            stack.wait(120)
        assert str(stack.state_dir.log_file("broken")) in str(error.value)
        assert not any(process.is_alive for process in stack.processes.values())


def test_a_given_address_is_used_instead_of_a_server(state_dir):
    with Stack(
        state_dir, only=SERVERS, database_url="postgresql://elsewhere/x", redis_url="redis://elsewhere"
    ) as stack:
        assert stack.processes == {}
        assert stack.database_url == "postgresql://elsewhere/x"


def test_no_process_survives_when_the_supervisor_is_killed(state_dir):
    code = (
        "import time; from app.stack import Stack\n"
        f"stack = Stack({str(state_dir)!r}, only=('postgres', 'redis')); stack.start(); print('up', flush=True)\n"
        "time.sleep(600)\n"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout.readline() == "up\n"
    started = process_tree(supervisor.pid)
    supervisor.kill()
    supervisor.wait()
    supervisor.stdout.close()
    assert len(started) > len(SERVERS) + 1
    until(lambda: running_processes(started) == [])
    # The state directory can be used again, since the kernel released the lock of the killed stack.
    with Stack(state_dir, only=SERVERS) as stack:
        assert servers_answer(stack)


def _tried(function, *arguments) -> bool:
    try:
        return function(*arguments)
    except Exception:
        return False
