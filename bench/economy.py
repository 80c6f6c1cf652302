"""What a row costs, by method: `make bench-economy`. The last line printed is one JSON object.

Real processes (PostgreSQL, Redis, API, workers) against the simulated teacher, which repeats a known instruction a
little changed in 25% of the cases and fails in 5% of its answers. Nothing is timed here: calls and tokens are counted.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from app.client import Seedbed
from app.stack import Stack
from app.synth import load_seeds

NEAR_DUPLICATES = "0.25"
FAULTS = {
    "server_error": 0.01,
    "rate_limit": 0.01,
    "cut_off": 0.01,
    "invalid_json": 0.01,
    "refusal": 0.005,
    "empty": 0.005,
}
MOST_INSTANCE_CALLS = 1.1


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=200, help="accepted rows of each run (fewer of the dear methods)")
    rows = options.parse_args().rows
    arguments = ["--near-duplicates", NEAR_DUPLICATES, "--latency", "0.02"]
    for kind, rate in FAULTS.items():
        arguments += ["--fault", f"{kind}={rate}"]
    home = tempfile.mkdtemp(prefix="seedbed-economy-")
    stack = Stack(home, durable=False, simulator_options=arguments, say=_say)
    with stack, Seedbed(stack.url, stack.api_key) as seedbed:
        found = [_measured(seedbed, *one) for one in _plans(seedbed, rows)]
    two_stage = [one["instance_calls_per_accepted"] for one in found if one["instance_calls_per_accepted"]]
    print(
        json.dumps(
            {
                "bench": "economy",
                "near_duplicates": float(NEAR_DUPLICATES),
                "faults": round(sum(FAULTS.values()), 3),
                "methods": found,
                "worst_instance_calls_per_accepted": max(two_stage),
                "wanted_at_most": MOST_INSTANCE_CALLS,
                "reached": max(two_stage) <= MOST_INSTANCE_CALLS,
            },
            ensure_ascii=False,
        )
    )


def _plans(seedbed: Seedbed, rows: int) -> list[tuple[str, str, str, int, dict]]:
    """(label, dataset, method, target, options) of each run; each on a dataset of its own, as a first run would be."""
    few = max(10, rows // 4)

    def dataset(name: str, language: str = "en") -> str:
        seeds = {"bundled": "korean" if language == "ko" else "english"}
        return seedbed.create_dataset(name, language, seeds)["id"]

    asked, labelled, read = seedbed.create_dataset("asked")["id"], dataset("labelled"), dataset("read")
    texts = [seed.instruction for seed in load_seeds("english")]
    _upload(seedbed, asked, "instructions", [{"instruction": text} for text in texts])
    lines = [{"text": f"{n}: {texts[n % len(texts)]}", "label": "good" if n % 2 else "bad"} for n in range(rows)]
    _upload(seedbed, labelled, "labelled", lines, "sentiment")
    _upload(seedbed, read, "documents", _documents())
    best = {"parents": {"answered": True}, "answers": 3}
    return [
        ("self_instruct two stages", dataset("two stages"), "self_instruct", rows, {}),
        ("self_instruct two stages, Korean", dataset("두 단계", "ko"), "self_instruct", rows, {}),
        ("self_instruct one call", dataset("one call"), "self_instruct", rows, {"variant": "one_call"}),
        ("evol_instruct", dataset("evolved"), "evol_instruct", few, {}),
        ("evol_instruct selection", dataset("selected"), "evol_instruct", few, {"survival": "selection"}),
        ("responses", asked, "responses", few, {}),
        ("responses best of 3", dataset("best of 3"), "responses", few, best),
        ("dialogue", dataset("talked"), "dialogue", few, {}),
        ("templates", labelled, "templates", rows, {}),
        ("documents", read, "documents", few, {}),
        ("safety", dataset("declined"), "safety", few, {}),
    ]


def _measured(seedbed: Seedbed, label: str, dataset: str, method: str, target: int, options: dict) -> dict:
    teacher = {} if method == "templates" else {"teacher": "simulated"}
    started = time.monotonic()
    run = seedbed.wait(seedbed.start_run(dataset_id=dataset, method=method, target=target, options=options, **teacher))
    accepted, usage = run["counts"]["accepted"], run["usage"]
    if run["status"] != "succeeded" or accepted == 0:
        sys.exit(f"{label}: {run['status']} with {run['stop_reason']}, {accepted} accepted: {run['error']}")
    steps = {one["name"]: one for one in seedbed.report(run["id"])["economy"]["steps"]}
    _say(f"{label:<34} {accepted:>4} rows, {usage['requests']:>5} calls, {time.monotonic() - started:5.1f} s")
    instances = steps.get("instances")
    return {
        "method": label,
        "accepted": accepted,
        "stop_reason": run["stop_reason"],
        "rejected": run["counts"]["rejected_by_reason"],
        "calls_per_accepted": _per(usage["requests"], accepted),
        "prompt_tokens_per_accepted": _per(usage["prompt_tokens"], accepted),
        "cached_tokens_per_accepted": _per(usage["cached_tokens"], accepted),
        "completion_tokens_per_accepted": _per(usage["completion_tokens"], accepted),
        "calls_per_accepted_by_step": {name: _per(one["calls"], accepted) for name, one in steps.items()},
        "instance_calls_per_accepted": _per(instances["calls"], accepted) if instances else None,
    }


def _upload(seedbed: Seedbed, dataset: str, kind: str, rows: list[dict], task: str | None = None) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        file.flush()
        done = seedbed.wait(seedbed.import_file(dataset, Path(file.name), kind, task))
    if done["status"] != "succeeded":
        sys.exit(f"the import of {kind} {done['status']}: {done['error']}")


def _documents() -> list[dict]:
    """The answers of the bundled seeds, some to a document: texts on many subjects."""
    texts = [instance.output for seed in load_seeds("english") for instance in seed.instances]
    long = [text for text in texts if len(text.split()) > 25 and "```" not in text]
    return [{"title": f"Notes {n}", "text": "\n\n".join(long[n : n + 6])} for n in range(0, len(long), 6)]


def _per(total: int, rows: int) -> float:
    return round(total / rows, 3)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
