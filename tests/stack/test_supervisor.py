"""The stack on real servers: PostgreSQL and Redis are started, watched, started again, and ended."""

import os
import signal
import subprocess
import sys

import psutil
import psycopg
import pytest
from redis import Redis

from app.stack import Stack, StackError, plan
from app.stack.children import RestartPolicy
from app.stack.processes import Spec
from tests.waiting import until

SERVERS = plan.SERVERS


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def answers(stack: Stack) -> bool:
    with psycopg.connect(stack.database_url) as connection, Redis.from_url(stack.redis_url) as redis:
        return connection.execute("SELECT 1").fetchone() == (1,) and redis.ping()


def family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    # is_running knows a process whose number was given to another since.
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_the_servers_answer_and_end_with_the_block(home):
    with Stack(home, only=SERVERS, durable=False) as stack:
        assert answers(stack)
        assert set(stack.processes) == set(SERVERS)
        started = [one for child in stack.processes.values() for one in family(child.pid)]
        assert len(started) > len(SERVERS)
    assert living(started) == []


def test_data_outlives_the_stack(home):
    with Stack(home, only=SERVERS) as stack, psycopg.connect(stack.database_url) as connection:
        connection.execute("CREATE TABLE kept (n int)")
    with Stack(home, only=SERVERS) as stack, psycopg.connect(stack.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_two_homes_run_side_by_side_and_one_home_runs_once(home, tmp_path):
    with Stack(home, only=SERVERS, durable=False) as one, Stack(tmp_path / "two", only=SERVERS, durable=False) as two:
        assert answers(one) and answers(two)
        assert one.database_url != two.database_url
        with pytest.raises(StackError, match="already runs"):
            Stack(home, only=SERVERS, sleep=lambda _: pytest.fail("it waited for a stack that lives")).start()
        assert answers(one)


def test_a_server_that_is_killed_comes_back_with_its_address(home):
    said = []
    with Stack(home, only=SERVERS, say=said.append) as stack:
        for name in SERVERS:
            before = stack.processes[name].pid
            os.kill(before, signal.SIGKILL)
            until(lambda name=name, before=before: stack.processes[name].pid != before)
        until(lambda: _tried(answers, stack))
    assert any("postgres was ended by signal 9" in line for line in said)


def test_a_process_that_keeps_ending_ends_the_stack_with_the_place_of_its_log(home):
    with Stack(home, only=SERVERS, durable=False, restarts=RestartPolicy(max_starts=1)) as stack:
        stack._children.start(Spec("broken", ("/bin/sh", "-c", "echo no such thing; exit 7"), env=dict(os.environ)))
        with pytest.raises(StackError, match="no such thing") as error:
            stack.wait(120)
        assert str(stack.home.log("broken")) in str(error.value)
        assert not any(child.alive for child in stack.processes.values())


def test_a_given_address_is_used_instead_of_a_server(home):
    with Stack(home, only=SERVERS, database_url="postgresql://elsewhere/x", redis_url="redis://elsewhere") as stack:
        assert stack.processes == {}
        assert stack.database_url == "postgresql://elsewhere/x"


def test_nothing_is_left_when_the_supervisor_is_killed(home):
    code = (
        "import time; from app.stack import Stack\n"
        f"stack = Stack({str(home)!r}, only=('postgres', 'redis')); stack.start(); print('up', flush=True)\n"
        "time.sleep(600)\n"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout.readline() == "up\n"
    started = family(supervisor.pid)
    supervisor.kill()
    supervisor.wait()
    supervisor.stdout.close()
    assert len(started) > len(SERVERS) + 1
    until(lambda: living(started) == [])
    # And the home can be used again: what was killed left no lock that stands in the way.
    with Stack(home, only=SERVERS) as stack:
        assert answers(stack)


def _tried(function, *arguments) -> bool:
    try:
        return function(*arguments)
    except Exception:
        return False
