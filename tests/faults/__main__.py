"""`make faults`: seeded trials; the last line printed is one JSON object, and every number in it should be 0.

`python -m tests.faults --trials 200 --seed 0`; one trial again: `--seed 17 --trials 1`.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.trials import FAULTS, Findings, Ground, Trial

# A training takes as long as some other trials together.
RARE = {
    "slow_start": 0.1,
    "kill_at_the_training": 0.15,
    "full_disk_at_the_training": 0.4,
    "no_memory_for_the_training": 0.4,
}
TRIALS_ON_A_GROUND = 40


def fault_of(seed: int) -> str:
    """Which fault a seed has."""
    rng = random.Random(f"fault/{seed}")
    names = [name for name in FAULTS if name != "nothing"]
    return rng.choices(names, [RARE.get(name, 1.0) for name in names])[0]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--trials", type=int, default=200)
    options.add_argument("--seed", type=int, default=0, help="of the first trial; the next ones count on from it")
    options.add_argument("--fault", choices=sorted(FAULTS), help="always this one")
    options.add_argument("--minutes", type=float, default=1e9, help="begin no trial after this time")
    given = options.parse_args()
    os.environ.pop("SEEDBED_CONFIG", None)
    started, found = time.monotonic(), []
    seeds = range(given.seed, given.seed + given.trials)
    for start in range(0, len(seeds), TRIALS_ON_A_GROUND):
        if time.monotonic() - started < 60 * given.minutes:
            found += _on_one_ground(seeds[start : start + TRIALS_ON_A_GROUND], given, started)
    names = ("rows_lost", "near_duplicates", "paid_twice", "ceilings_overrun", "not_ended")
    more = ("books_wrong", "orphans", "snapshots_changed")
    totals = {name: sum(getattr(one, name) for one in found) for name in (*names, *more)}
    bad = [{"seed": one.seed, "fault": one.fault, "words": one.words} for one in found if not one.clean]
    seconds = round(time.monotonic() - started)
    print(json.dumps({"bench": "faults", "trials": len(found), **totals, "seconds": seconds, "failed": bad}))
    sys.exit(1 if bad else 0)


def _on_one_ground(seeds: range, given: argparse.Namespace, started: float) -> list[Findings]:
    found = []
    with Ground(Path(tempfile.mkdtemp(prefix="seedbed-faults-"))) as ground:
        for seed in seeds:
            if time.monotonic() - started > 60 * given.minutes:
                break
            fault, began = given.fault or fault_of(seed), time.monotonic()
            try:
                one = Trial(ground, seed, fault).work()
            except Exception as error:
                one = Findings(seed, fault)
                one.say("not_ended", f"{type(error).__name__}: {error}")
            found.append(one)
            state = "ok" if one.clean else "; ".join(one.words)
            print(f"{seed} {fault} {time.monotonic() - began:.0f} s: {state}", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    main()
