"""How fast a run asks its teacher: `make bench-run`. The last line printed is one JSON object.

The simulated teacher answers with a long-tailed latency (median 2 s) and has no limit. Compared with a bare asyncio
loop of the same client in the same run: one generation worker at 200 in flight. Two workers are compared with one at
100 in flight for each, where the teacher's latency is what they wait for, and at 200 for each, where on two cores it is
the processor. Then calls by method, and the memory of a worker over 20,000 completions.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from app.client import Seedbed
from app.stack import Stack
from app.stack.plan import environment, worker
from bench import economy

IN_FLIGHT, FEWER = 200, 100
LATENCY, TAIL = "2.0", "0.6"
WARM_SECONDS, MEASURED_SECONDS = 25, 40
WANTED = {"share_of_bare_loop": 0.9, "two_workers_times_one": 1.8, "memory_growth_20k": 1.1}
CONFIG = """
[[teachers]]
name = "bench"
base_url = "{url}"
model = "seedbed-simulated"
in_flight = {in_flight}
prompt_price = "0.15"
completion_price = "0.60"
"""


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


@contextmanager
def simulator(*options: str):
    """A simulated teacher of its own; its address."""
    with tempfile.TemporaryDirectory(prefix="seedbed-bench-") as folder:
        log = Path(folder) / "log"
        with log.open("w") as out:
            command = [sys.executable, "-m", "app.simulator", "--port", "0", *options]
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            yield _address(process)
        finally:
            process.terminate()
            process.wait(10)


def _address(process: subprocess.Popen) -> str:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        for one in psutil.Process(process.pid).net_connections(kind="tcp"):
            if one.status == psutil.CONN_LISTEN:
                return f"http://127.0.0.1:{one.laddr.port}/v1"
        time.sleep(0.1)
    raise RuntimeError("the simulated teacher did not start")


def served(url: str) -> int:
    return httpx.get(url.removesuffix("/v1") + "/stats", timeout=30).json()["requests"]


async def bare_loop(url: str) -> float:
    """Requests a second of 200 tasks that each ask again as soon as they have their answer."""
    from app.providers.protocols import open_teacher
    from app.providers.teacher import Endpoint
    from app.synth.prices import Prices
    from app.synth.types import Prompt

    teacher = open_teacher(Endpoint("bare", url, "seedbed-simulated", "none", Prices(0, 0, 0), in_flight=IN_FLIGHT))
    over = time.monotonic() + WARM_SECONDS / 2 + MEASURED_SECONDS
    number = 0

    async def ask() -> None:
        nonlocal number
        while time.monotonic() < over:
            number += 1
            prompt = Prompt("answer", str(number), "Answer.", f"Explain the number {number}.", None, 0.0, 256, "x")
            await teacher.complete(prompt)

    async def measure() -> float:
        await asyncio.sleep(WARM_SECONDS / 2)
        before, started = number, time.monotonic()
        await asyncio.sleep(MEASURED_SECONDS - 2)
        return (number - before) / (time.monotonic() - started)

    rate, *_ = await asyncio.gather(measure(), *(ask() for _ in range(IN_FLIGHT)))
    await teacher.close()
    return rate


@contextmanager
def stack(url: str, in_flight: int, workers: int = 1):
    """A stack on this teacher, with its client and the ids of its generation workers."""
    home = Path(tempfile.mkdtemp(prefix="seedbed-bench-"))
    config = home / "bench.toml"
    config.write_text(CONFIG.format(url=url, in_flight=in_flight))
    only = ("postgres", "redis", "api", "generation", "sweeper")
    one = Stack(home / "stack", only=only, config=config, environment={"SEEDBED_ENCODER_THREADS": "1"})
    with one, Seedbed(one.url, one.api_key) as client:
        more = [_another(one, config) for _ in range(workers - 1)]
        try:
            yield client, [one.processes["generation"].pid, *(process.pid for process in more)]
        finally:
            for process in more:
                process.terminate()
                process.wait(30)


def _another(one: Stack, config: Path) -> subprocess.Popen:
    changes = {
        "DATABASE_URL": one.database_url,
        "REDIS_URL": one.redis_url,
        "SEEDBED_CONFIG": str(config),
        "SEEDBED_HOME": str(one.state_dir.path),
        "SEEDBED_ENCODER_THREADS": "1",
    }
    argv = [part.replace("@%h", "-2@%h") for part in worker("generation").argv]
    return subprocess.Popen(argv, env=environment(changes), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def start_run(client: Seedbed, target: int, **more) -> dict:
    """A run that will not end by itself while it is measured."""
    dataset = client.create_dataset(f"bench {time.time_ns()}", seeds={"bundled": "english"})
    return client.start_run(
        dataset_id=dataset["id"], teacher="bench", target=target, max_candidates=10 * target, saturation_share=0, **more
    )


def rate_of_runs(url: str, in_flight: int, workers: int) -> dict:
    """Requests a second with this many workers, a run for each."""
    with stack(url, in_flight, workers) as (client, pids):
        runs = [start_run(client, 50_000, seed=n) for n in range(workers)]
        time.sleep(WARM_SECONDS)
        processes = [psutil.Process(pid) for pid in pids]
        cpu = [sum(process.cpu_times()[:2]) for process in processes]
        before, started = served(url), time.monotonic()
        time.sleep(MEASURED_SECONDS)
        seconds = time.monotonic() - started
        rate = (served(url) - before) / seconds
        used = [(sum(p.cpu_times()[:2]) - c) / seconds for p, c in zip(processes, cpu, strict=True)]
        now = [client.get(run["id"]) for run in runs]
        for run in runs:
            client.act(run["id"], "cancel")
        ended = [client.wait(run) for run in now]
    return {
        "requests_per_s": round(rate, 1),
        "in_flight": [run["usage"]["in_flight"] for run in now],
        "worker_cpu": [round(one, 2) for one in used],
        "machine_cpu": psutil.cpu_percent(),
        "requests_per_accepted": ended[0]["usage"]["requests_per_accepted"],
    }


def memory(completions: int) -> dict:
    """A worker's memory (resident, MB) while it makes this many completions, with a teacher that answers at once."""
    with simulator("--latency", "0.05") as url, stack(url, IN_FLIGHT) as (client, pids):
        process = psutil.Process(pids[0])
        run = start_run(client, 100_000, method="self_instruct")
        found, until = {}, time.monotonic() + 900
        step = completions // 10
        while (done := client.get(run["id"])["usage"]["requests"]) < completions and time.monotonic() < until:
            if done // step not in found:
                found[done // step] = round(process.memory_info().rss / 2**20)
                say(f"  {done} completions, {found[done // step]} MB")
            time.sleep(0.5)
        found[done // step] = round(process.memory_info().rss / 2**20)
        client.act(run["id"], "cancel")
        client.wait(client.get(run["id"]))
    settled = [megabytes for tenth, megabytes in found.items() if tenth >= 2]
    return {
        "completions": done,
        "mb_by_tenth": found,
        "memory_growth_20k": round(settled[-1] / settled[0], 3) if settled else None,
    }


def calls_by_method(rows: int) -> dict[str, float]:
    """Teacher calls for an accepted record, method by method; `make bench-economy` has the whole of it."""
    home = tempfile.mkdtemp(prefix="seedbed-bench-")
    one = Stack(home, durable=False, simulator_options=("--latency", "0.02"))
    with one, Seedbed(one.url, one.api_key) as client:
        plans = economy._plans(client, rows)
        return {plan[0]: economy._measured(client, *plan)["calls_per_accepted"] for plan in plans}


def _said(latency: tuple[str, ...], workers: int, each: int) -> dict:
    with simulator(*latency) as url:
        say(f"workers: {workers}, in flight for each: {each} …")
        found = rate_of_runs(url, workers * each, workers)
        say(f"  {json.dumps(found)}")
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--completions", type=int, default=20_000, help="over which the memory is watched")
    options.add_argument("--skip-memory", action="store_true")
    options.add_argument("--skip-methods", action="store_true")
    given = options.parse_args()
    os.environ.pop("SEEDBED_CONFIG", None)
    latency = ("--latency", LATENCY, "--latency-tail", TAIL)
    with simulator(*latency) as url:
        say("a bare loop …")
        bare = asyncio.run(bare_loop(url))
        say(f"  {bare:.1f} requests/s")
    rates = {(workers, each): _said(latency, workers, each) for each in (IN_FLIGHT, FEWER) for workers in (1, 2)}
    one, two = rates[1, FEWER], rates[2, FEWER]
    found = {
        "bench": "run",
        "latency_median_s": float(LATENCY),
        "latency_tail_sigma": float(TAIL),
        "cores": psutil.cpu_count(),
        "bare_loop_requests_per_s": round(bare, 1),
        "rates": [{"workers": workers, "in_flight_each": each} | rate for (workers, each), rate in rates.items()],
        "share_of_bare_loop": round(rates[1, IN_FLIGHT]["requests_per_s"] / bare, 3),
        "two_workers_times_one": round(two["requests_per_s"] / one["requests_per_s"], 3),
    }
    if not given.skip_methods:
        say("calls by method …")
        found["calls_per_accepted"] = calls_by_method(40)
    if not given.skip_memory:
        say("memory …")
        found |= memory(given.completions)
    found["reached"] = {
        "share_of_bare_loop": found["share_of_bare_loop"] >= WANTED["share_of_bare_loop"],
        "two_workers_times_one": found["two_workers_times_one"] >= WANTED["two_workers_times_one"],
        "memory_growth_20k": found.get("memory_growth_20k")
        and found["memory_growth_20k"] <= WANTED["memory_growth_20k"],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
