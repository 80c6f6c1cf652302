"""Measures how many teacher calls a run makes per second: `make bench-run`. The last line printed is one JSON object.

The simulated teacher has a latency with a median of 2 s and a long tail, and no rate limits. One generation worker with
200 calls in flight is compared with a bare asyncio loop of the same client in the same run. Two workers are compared
with one at 100 calls in flight each, where the latency limits the rate, and at 200 each, where on two cores the
processor does. Then the calls of each method, and the memory of a worker over 20,000 completions, are measured.
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

IN_FLIGHT, FEWER_IN_FLIGHT = 200, 100
LATENCY, TAIL = "2.0", "0.6"
# A run needs some seconds until it has as many calls in flight as it may.
WARM_SECONDS, MEASURED_SECONDS = 25, 40
GOALS = {"share_of_bare_loop": 0.9, "two_workers_times_one": 1.8, "memory_growth_20k": 1.1}
# The prices make no difference to the rate, but a teacher needs them.
CONFIG = """
[[teachers]]
name = "bench"
base_url = "{url}"
model = "seedbed-simulated"
in_flight = {in_flight}
prompt_price = "0.15"
completion_price = "0.60"
"""


def print_progress(line: str) -> None:
    """Print a line to stderr; stdout is for the result."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def simulator(*options: str):
    """Start a simulated teacher with options of its command line, yield its URL, and stop it."""
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
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for connection in psutil.Process(process.pid).net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN:
                return f"http://127.0.0.1:{connection.laddr.port}/v1"
        time.sleep(0.1)
    raise RuntimeError("the simulated teacher did not start")


def count_requests(url: str) -> int:
    """Return the number of requests that the teacher has served so far."""
    return httpx.get(url.removesuffix("/v1") + "/stats", timeout=30).json()["requests"]


async def bare_loop(url: str) -> float:
    """Return the requests per second of 200 tasks that each make one call after another."""
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
    """Start a stack with this teacher, and yield its client and the process ids of its generation workers.

    `in_flight` is the most calls in flight of all workers together.
    """
    folder = Path(tempfile.mkdtemp(prefix="seedbed-bench-"))
    config = folder / "bench.toml"
    config.write_text(CONFIG.format(url=url, in_flight=in_flight))
    only = ("postgres", "redis", "api", "generation", "sweeper")
    first = Stack(folder / "stack", only=only, config=config, environment={"SEEDBED_ENCODER_THREADS": "1"})
    with first, Seedbed(first.url, first.api_key) as client:
        others = [start_worker(first, config) for _ in range(workers - 1)]
        try:
            yield client, [first.processes["generation"].pid, *(process.pid for process in others)]
        finally:
            for process in others:
                process.terminate()
                process.wait(30)


def start_worker(stack: Stack, config: Path) -> subprocess.Popen:
    changes = {
        "DATABASE_URL": stack.database_url,
        "REDIS_URL": stack.redis_url,
        "SEEDBED_CONFIG": str(config),
        "SEEDBED_HOME": str(stack.state_dir.path),
        "SEEDBED_ENCODER_THREADS": "1",
    }
    # Two Celery workers need different names.
    argv = [part.replace("@%h", "-2@%h") for part in worker("generation").argv]
    return subprocess.Popen(argv, env=environment(changes), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def start_run(client: Seedbed, target: int, **options) -> dict:
    """Start a run that does not end while it is measured: it never saturates and has room for many rejections."""
    dataset = client.create_dataset(f"bench {time.time_ns()}", seeds={"bundled": "english"})
    return client.start_run(
        dataset_id=dataset["id"],
        teacher="bench",
        target=target,
        max_candidates=10 * target,
        saturation_share=0,
        **options,
    )


def measure_rate(url: str, in_flight: int, workers: int) -> dict:
    """Return the requests per second and the CPU use of this many workers, with one run for each."""
    with stack(url, in_flight, workers) as (client, pids):
        runs = [start_run(client, 50_000, seed=n) for n in range(workers)]
        time.sleep(WARM_SECONDS)
        processes = [psutil.Process(pid) for pid in pids]
        cpu = [sum(process.cpu_times()[:2]) for process in processes]
        count_before, started = count_requests(url), time.monotonic()
        time.sleep(MEASURED_SECONDS)
        seconds = time.monotonic() - started
        rate = (count_requests(url) - count_before) / seconds
        cpu_shares = [(sum(p.cpu_times()[:2]) - c) / seconds for p, c in zip(processes, cpu, strict=True)]
        running = [client.get(run["id"]) for run in runs]
        for run in runs:
            client.act(run["id"], "cancel")
        # The share of accepted candidates is known only at the end of a run.
        ended = [client.wait(run) for run in running]
    return {
        "requests_per_s": round(rate, 1),
        "in_flight": [run["usage"]["in_flight"] for run in running],
        "worker_cpu": [round(share, 2) for share in cpu_shares],
        "machine_cpu": psutil.cpu_percent(),
        "requests_per_accepted": ended[0]["usage"]["requests_per_accepted"],
    }


def measure_memory(completions: int) -> dict:
    """Return the resident memory of a worker in MB at each tenth of so many completions, with a fast teacher."""
    with simulator("--latency", "0.05") as url, stack(url, IN_FLIGHT) as (client, pids):
        process = psutil.Process(pids[0])
        run = start_run(client, 100_000, method="self_instruct")
        megabytes_by_tenth, deadline = {}, time.monotonic() + 900
        step = completions // 10
        while (completed := client.get(run["id"])["usage"]["requests"]) < completions and time.monotonic() < deadline:
            if completed // step not in megabytes_by_tenth:
                megabytes_by_tenth[completed // step] = round(process.memory_info().rss / 2**20)
                print_progress(f"  {completed} completions, {megabytes_by_tenth[completed // step]} MB")
            time.sleep(0.5)
        megabytes_by_tenth[completed // step] = round(process.memory_info().rss / 2**20)
        client.act(run["id"], "cancel")
        client.wait(client.get(run["id"]))
    # In the first fifth the encoder and the caches are loaded, which is no growth.
    after_warm_up = [megabytes for tenth, megabytes in megabytes_by_tenth.items() if tenth >= 2]
    return {
        "completions": completed,
        "mb_by_tenth": megabytes_by_tenth,
        "memory_growth_20k": round(after_warm_up[-1] / after_warm_up[0], 3) if after_warm_up else None,
    }


def calls_by_method(rows: int) -> dict[str, float]:
    """Return the teacher calls per accepted record of each method. `make bench-economy` measures more of this."""
    state_dir = tempfile.mkdtemp(prefix="seedbed-bench-")
    local_stack = Stack(state_dir, durable=False, simulator_options=("--latency", "0.02"))
    with local_stack, Seedbed(local_stack.url, local_stack.api_key) as client:
        plans = economy.plan_runs(client, rows)
        return {plan[0]: economy.measure_method(client, *plan)["calls_per_accepted"] for plan in plans}


def measure_workers(latency: tuple[str, ...], workers: int, each: int) -> dict:
    with simulator(*latency) as url:
        print_progress(f"workers: {workers}, in flight for each: {each} …")
        result = measure_rate(url, workers * each, workers)
        print_progress(f"  {json.dumps(result)}")
    return result


def main() -> None:
    """Run all measurements and print the result."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--completions", type=int, default=20_000, help="the number of completions over which the memory is measured"
    )
    options.add_argument("--skip-memory", action="store_true")
    options.add_argument("--skip-methods", action="store_true")
    arguments = options.parse_args()
    os.environ.pop("SEEDBED_CONFIG", None)
    latency = ("--latency", LATENCY, "--latency-tail", TAIL)
    with simulator(*latency) as url:
        print_progress("a bare loop …")
        bare = asyncio.run(bare_loop(url))
        print_progress(f"  {bare:.1f} requests/s")
    cases = [(workers, each) for each in (IN_FLIGHT, FEWER_IN_FLIGHT) for workers in (1, 2)]
    # One after another: two measurements at the same time would share the cores.
    rates = {(workers, each): measure_workers(latency, workers, each) for workers, each in cases}
    one_worker, two_workers = rates[1, FEWER_IN_FLIGHT], rates[2, FEWER_IN_FLIGHT]
    results = {
        "bench": "run",
        "latency_median_s": float(LATENCY),
        "latency_tail_sigma": float(TAIL),
        "cores": psutil.cpu_count(),
        "bare_loop_requests_per_s": round(bare, 1),
        "rates": [{"workers": workers, "in_flight_each": each} | rate for (workers, each), rate in rates.items()],
        "share_of_bare_loop": round(rates[1, IN_FLIGHT]["requests_per_s"] / bare, 3),
        "two_workers_times_one": round(two_workers["requests_per_s"] / one_worker["requests_per_s"], 3),
    }
    if not arguments.skip_methods:
        print_progress("calls by method …")
        results["calls_per_accepted"] = calls_by_method(40)
    if not arguments.skip_memory:
        print_progress("memory …")
        results |= measure_memory(arguments.completions)
    results["reached"] = {
        "share_of_bare_loop": results["share_of_bare_loop"] >= GOALS["share_of_bare_loop"],
        "two_workers_times_one": results["two_workers_times_one"] >= GOALS["two_workers_times_one"],
        "memory_growth_20k": results.get("memory_growth_20k")
        and results["memory_growth_20k"] <= GOALS["memory_growth_20k"],
    }
    print(json.dumps(results))


if __name__ == "__main__":
    main()
