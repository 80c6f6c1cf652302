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

from tests.faults.trials import FAULTS, Findings, RunningService, Trial

# A training takes as long as some other trials together.
RARE = {
    "slow_start": 0.1,
    "kill_at_the_training": 0.15,
    "full_disk_at_the_training": 0.4,
    "no_memory_for_the_training": 0.4,
}
TRIALS_PER_SERVICE = 40


def fault_of(seed: int) -> str:
    """Return the name of the fault that a seed chooses."""
    rng = random.Random(f"fault/{seed}")
    names = [name for name in FAULTS if name != "nothing"]
    return rng.choices(names, [RARE.get(name, 1.0) for name in names])[0]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--trials", type=int, default=200)
    options.add_argument("--seed", type=int, default=0, help="of the first trial; the next ones count on from it")
    options.add_argument("--fault", choices=sorted(FAULTS), help="always this one")
    options.add_argument("--minutes", type=float, default=1e9, help="begin no trial after this time")
    arguments = options.parse_args()
    os.environ.pop("SEEDBED_CONFIG", None)
    started, all_findings = time.monotonic(), []
    seeds = range(arguments.seed, arguments.seed + arguments.trials)
    for start in range(0, len(seeds), TRIALS_PER_SERVICE):
        if time.monotonic() - started < 60 * arguments.minutes:
            all_findings += _run_with_one_service(seeds[start : start + TRIALS_PER_SERVICE], arguments, started)
    names = ("rows_lost", "near_duplicates", "paid_twice", "ceilings_overrun", "not_ended")
    other_names = ("books_wrong", "orphans", "snapshots_changed")
    totals = {name: sum(getattr(findings, name) for findings in all_findings) for name in (*names, *other_names)}
    bad = [
        {"seed": findings.seed, "fault": findings.fault, "words": findings.messages}
        for findings in all_findings
        if not findings.clean
    ]
    seconds = round(time.monotonic() - started)
    print(json.dumps({"bench": "faults", "trials": len(all_findings), **totals, "seconds": seconds, "failed": bad}))
    sys.exit(1 if bad else 0)


def _run_with_one_service(seeds: range, arguments: argparse.Namespace, started: float) -> list[Findings]:
    all_findings = []
    with RunningService(Path(tempfile.mkdtemp(prefix="seedbed-faults-"))) as service:
        for seed in seeds:
            if time.monotonic() - started > 60 * arguments.minutes:
                break
            fault, trial_started = arguments.fault or fault_of(seed), time.monotonic()
            try:
                findings = Trial(service, seed, fault).work()
            except Exception as error:
                findings = Findings(seed, fault)
                findings.add("not_ended", f"{type(error).__name__}: {error}")
            all_findings.append(findings)
            state = "ok" if findings.clean else "; ".join(findings.messages)
            print(f"{seed} {fault} {time.monotonic() - trial_started:.0f} s: {state}", file=sys.stderr, flush=True)
    return all_findings


if __name__ == "__main__":
    main()
