"""Compares the cost that a run shows with the teacher's bill while its worker is killed repeatedly: `make bench-costs`.

Real processes (PostgreSQL, Redis, API, workers) use the simulated teacher, which counts what it bills. The last line of
the output is one JSON object with amounts in dollars. The goal is reached if certain <= bill <= certain + held, and if
the shown cost is nearer to the bill than the cost with all lost calls at their worst case.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from decimal import Decimal

import httpx
from sqlalchemy import create_engine, text

from app.client import ENDED, Seedbed
from app.stack import Stack

# Slow answers, so that a kill always finds calls in flight.
LATENCY = ("--latency", "1.0", "--latency-tail", "0.5")
# Short leases, so that the run continues soon after a kill.
FAST = {"SEEDBED_LEASE_SECONDS": "4", "SEEDBED_SWEEP_SECONDS": "0.5"}
CALLS_BETWEEN_KILLS = 30
# The ledger rounds the cost of each call up to nine decimal places, so the sum may exceed the bill by this per call.
ROUNDING = Decimal("1e-9")


def main() -> None:
    """Make a run, kill its worker, and print the costs."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--target", type=int, default=150, help="accepted rows")
    options.add_argument("--kills", type=int, default=5, help="of the generation worker, in mid-flight")
    arguments = options.parse_args()
    os.environ.pop("SEEDBED_CONFIG", None)
    state_dir = tempfile.mkdtemp(prefix="seedbed-costs-")
    stack = Stack(state_dir, durable=False, environment=FAST, simulator_options=LATENCY)
    with stack, Seedbed(stack.url, stack.api_key) as seedbed:
        dataset = seedbed.create_dataset("costs", seeds={"bundled": "english"})
        run = seedbed.start_run(dataset_id=dataset["id"], teacher="simulated", target=arguments.target)
        kills = _kill_in_mid_flight(stack, seedbed, run["id"], arguments.kills)
        run = seedbed.wait(run)
        bill = _bill(stack, seedbed)
        figures = _figures(stack, run, bill)
    print(json.dumps({"bench": "costs", "target": arguments.target, "kills": kills, **figures}))


def _kill_in_mid_flight(stack: Stack, seedbed: Seedbed, run_id: str, kills: int) -> int:
    """Kill the generation worker `kills` times while calls are in flight, and return how often it was killed.

    Between two kills the run gets CALLS_BETWEEN_KILLS answers, so that it always makes progress.
    """
    kill_count, answered = 0, 0
    while kill_count < kills and (run := seedbed.get(run_id))["status"] not in ENDED:
        usage = run["usage"]
        if usage["in_flight"] and usage["requests"] - usage["unknown_requests"] >= answered + CALLS_BETWEEN_KILLS:
            _kill(stack)
            kill_count, answered = kill_count + 1, usage["requests"] - usage["unknown_requests"]
            print(f"kill {kill_count}: {usage['in_flight']} calls in flight", file=sys.stderr, flush=True)
        time.sleep(0.2)
    return kill_count


def _kill(stack: Stack) -> None:
    child = stack.processes["generation"]
    # The supervisor ends the stack after too many restarts, which this bench causes on purpose.
    child.start_count = 1
    with suppress(ProcessLookupError):
        os.kill(child.pid, signal.SIGKILL)


def _bill(stack: Stack, seedbed: Seedbed) -> Decimal:
    """Return the cost in dollars of all that the teacher has served, after its last answer."""
    address, tokens = stack.teacher_url.removesuffix("/v1") + "/stats", None
    # Calls of killed workers are still served and billed, so the count is read until it stays the same.
    while tokens != (tokens := httpx.get(address).json()["tokens"]):
        time.sleep(3)
    teacher = next(item for item in seedbed.teachers() if item["name"] == "simulated")
    uncached = (tokens["prompt"] - tokens["cached"]) * Decimal(teacher["prompt_price"])
    cached = tokens["cached"] * Decimal(teacher["cached_price"])
    return (uncached + cached + tokens["completion"] * Decimal(teacher["completion_price"])) / 1_000_000


def _figures(stack: Stack, run: dict, bill: Decimal) -> dict:
    usage = run["usage"]
    names = ("cost_usd", "certain_usd", "possible_usd", "held_usd")
    shown, certain, possible, held = (Decimal(usage[name]) for name in names)
    # What the run would show if a lost call counted at its worst case, as it did before accounts existed.
    worst = certain + _worst_of_lost_calls(stack, run["account_id"])
    bounded = certain - usage["requests"] * ROUNDING <= bill <= certain + held
    figures = {"bill": bill, "shown": shown, "certain": certain, "possible": possible, "held": held}
    return {
        "status": run["status"],
        "requests": usage["requests"],
        "lost_calls": usage["unknown_requests"],
        **{name: float(round(value, 6)) for name, value in figures.items()},
        "with_lost_calls_at_their_worst": float(round(worst, 6)),
        "reached": bounded and abs(shown - bill) < abs(worst - bill),
    }


def _worst_of_lost_calls(stack: Stack, account_id: str) -> Decimal:
    address = f"postgresql+psycopg://{stack.database_url.partition('://')[2]}"
    query = text("SELECT coalesce(sum(worst_usd), 0) FROM lost_calls WHERE account_id = :id")
    with create_engine(address).connect() as connection:
        return connection.scalar(query, {"id": account_id})


if __name__ == "__main__":
    main()
