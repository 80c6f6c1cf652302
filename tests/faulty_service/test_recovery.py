"""The stack under kill -9 and a wiped Redis: the run still ends exactly, and nothing stored is paid twice."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable

import httpx
import psutil
import pytest
from redis import Redis

from app.stack import Stack
from tests.rest import teacher_stats
from tests.waiting import until


def start(client: httpx.Client, target: int) -> str:
    seeds = {"bundled": "english"}
    dataset = client.post("/v1/datasets", json={"name": f"recovery {uuid.uuid4()}", "seeds": seeds}).json()
    body = {"dataset_id": dataset["id"], "teacher": "simulated", "target": target}
    run = client.post("/v1/runs", json=body).json()
    wait_until(client, run["id"], lambda run: run["counts"]["accepted"] > 0)
    return run["id"]


def wait_until(client: httpx.Client, id: str, condition: Callable[[dict], bool]) -> dict:
    """The run when it meets the condition; it must not end before."""

    def met() -> dict | None:
        run = client.get(f"/v1/runs/{id}").json()
        if condition(run):
            return run
        assert run["status"] in ("queued", "running"), run
        return None

    return until(met, 180, message=lambda: client.get(f"/v1/runs/{id}").json())


def ended(run: dict) -> bool:
    return run["status"] == "succeeded"


def check(client: httpx.Client, stack: Stack, id: str, target: int) -> dict:
    run = wait_until(client, id, ended)
    assert (run["stop_reason"], run["counts"]["accepted"]) == ("target_reached", target)
    query = {"run_id": id, "status": "accepted", "limit": 200}
    rows = client.get(f"/v1/datasets/{run['dataset_id']}/records", params=query).json()["data"]
    assert len(rows) == target
    assert run["usage"]["in_flight"] == 0
    return run


def twice(stats: dict) -> int:
    """Distinct requests that the teacher, who is the witness, served and billed more than once."""
    return stats["request_hashes"]["billed_more_than_once"]


def test_a_killed_generation_worker(client, faulty):
    before = teacher_stats(faulty)
    id = start(client, 60)
    os.kill(faulty.processes["generation"].pid, signal.SIGKILL)
    run = check(client, faulty, id, 60)
    after = teacher_stats(faulty)
    # Only calls in flight at the kill were made again, and each is counted.
    again = twice(after) - twice(before)
    assert 0 <= again <= run["usage"]["unknown_requests"]


def test_a_wiped_redis(client, faulty):
    id = start(client, 40)
    Redis.from_url(faulty.redis_url).flushall()
    check(client, faulty, id, 40)


def test_a_killed_redis(client, faulty):
    id = start(client, 40)
    os.kill(faulty.processes["redis"].pid, signal.SIGKILL)
    check(client, faulty, id, 40)


# With the servers alone in tests/stack/test_supervisor.py.
@pytest.mark.long
def test_no_process_is_left_when_the_stack_is_killed(tmp_path):
    code = (
        "import sys, time; from app.stack import Stack; from app.stack.state_dir import free_port\n"
        f"stack = Stack({str(tmp_path / 'home')!r}, durable=False, port=free_port()); stack.start()\n"
        "print(*[p.pid for p in stack.processes.values()], flush=True); time.sleep(600)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in child.stdout.readline().split()]
    assert len(pids) >= 8
    everyone = pids + [item.pid for pid in pids for item in psutil.Process(pid).children(recursive=True)]
    child.kill()
    child.wait()
    until(lambda: not any(psutil.pid_exists(pid) for pid in everyone), message=everyone)


def test_the_api_takes_work_while_redis_hangs_and_the_work_is_done(faulty, client):
    dataset = client.post("/v1/datasets", json={"name": f"hung {uuid.uuid4()}", "seeds": {"bundled": "english"}}).json()
    pid = faulty.processes["redis"].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        body = {"dataset_id": dataset["id"], "teacher": "simulated", "target": 5}
        answers = [client.post("/v1/runs", json=body) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [202, 202]
    finally:
        os.kill(pid, signal.SIGCONT)
    for answer in answers:
        wait_until(client, answer.json()["id"], ended)
