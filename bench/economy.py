"""Measures the calls and tokens per row of each method: `make bench-economy`. The last line printed is one JSON object.

Real processes (PostgreSQL, Redis, API, workers) use the simulated teacher. It writes a near-duplicate of an existing
instruction in 25% of the cases and fails in 5% of its answers. The bench counts calls and tokens; it measures no
times.
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
# The rates add up to 5 %.
FAULTS = {
    "server_error": 0.01,
    "rate_limit": 0.01,
    "cut_off": 0.01,
    "invalid_json": 0.01,
    "refusal": 0.005,
    "empty": 0.005,
}
MAX_INSTANCE_CALLS = 1.1


def main() -> None:
    """Make a run of each method and print the costs."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--rows", type=int, default=200, help="accepted rows of each run (a quarter for methods with many calls)"
    )
    rows = options.parse_args().rows
    state_dir = tempfile.mkdtemp(prefix="seedbed-economy-")
    stack = Stack(state_dir, durable=False, simulator_options=simulator_arguments(), say=_print_progress)
    with stack, Seedbed(stack.url, stack.api_key) as seedbed:
        results = [measure_method(seedbed, *plan) for plan in plan_runs(seedbed, rows)]
    two_stage = [calls for result in results if (calls := result["instance_calls_per_accepted"])]
    print(
        json.dumps(
            {
                "bench": "economy",
                "near_duplicates": float(NEAR_DUPLICATES),
                "faults": round(sum(FAULTS.values()), 3),
                "methods": results,
                "worst_instance_calls_per_accepted": max(two_stage),
                "wanted_at_most": MAX_INSTANCE_CALLS,
                "reached": max(two_stage) <= MAX_INSTANCE_CALLS,
            },
            ensure_ascii=False,
        )
    )


def simulator_arguments() -> list[str]:
    """Return the options of the simulated teacher: near-duplicates and faults."""
    arguments = ["--near-duplicates", NEAR_DUPLICATES, "--latency", "0.02"]
    for fault, rate in FAULTS.items():
        arguments += ["--fault", f"{fault}={rate}"]
    return arguments


def create_seed_dataset(seedbed: Seedbed, name: str, language: str = "en") -> str:
    """Create a dataset with the bundled seeds of the language, and return its id."""
    return seedbed.create_dataset(name, language, {"bundled": "korean" if language == "ko" else "english"})["id"]


def create_document_dataset(seedbed: Seedbed, name: str) -> str:
    """Create a dataset with seeds and documents, and return its id."""
    dataset = create_seed_dataset(seedbed, name)
    _upload(seedbed, dataset, "documents", _documents())
    return dataset


def plan_runs(seedbed: Seedbed, rows: int) -> list[tuple[str, str, str, int, dict]]:
    """Create a dataset for each run, and return (label, dataset, method, target, options) of the runs.

    Each run has its own dataset, since rows of another run would cause more duplicates.
    """
    fewer_rows = max(10, rows // 4)

    def dataset(name: str, language: str = "en") -> str:
        return create_seed_dataset(seedbed, name, language)

    questions, labelled = seedbed.create_dataset("asked")["id"], dataset("labelled")
    documents = create_document_dataset(seedbed, "read")
    texts = [seed.instruction for seed in load_seeds("english")]
    _upload(seedbed, questions, "instructions", [{"instruction": text} for text in texts])
    lines = [{"text": f"{n}: {texts[n % len(texts)]}", "label": "good" if n % 2 else "bad"} for n in range(rows)]
    _upload(seedbed, labelled, "labelled", lines, "sentiment")
    best = {"parents": {"answered": True}, "answers": 3}
    return [
        ("self_instruct two stages", dataset("two stages"), "self_instruct", rows, {}),
        ("self_instruct two stages, Korean", dataset("두 단계", "ko"), "self_instruct", rows, {}),
        ("self_instruct one call", dataset("one call"), "self_instruct", rows, {"variant": "one_call"}),
        ("evol_instruct", dataset("evolved"), "evol_instruct", fewer_rows, {}),
        ("evol_instruct selection", dataset("selected"), "evol_instruct", fewer_rows, {"survival": "selection"}),
        ("responses", questions, "responses", fewer_rows, {}),
        ("responses best of 3", dataset("best of 3"), "responses", fewer_rows, best),
        ("dialogue", dataset("talked"), "dialogue", fewer_rows, {}),
        ("templates", labelled, "templates", rows, {}),
        ("documents", documents, "documents", fewer_rows, {}),
        ("safety", dataset("declined"), "safety", fewer_rows, {}),
    ]


def measure_method(seedbed: Seedbed, label: str, dataset: str, method: str, target: int, options: dict) -> dict:
    """Make a run and return its calls and tokens per accepted row. Exits if the run does not succeed."""
    # A run of this method refuses a teacher, since it makes no calls.
    teacher = {} if method == "templates" else {"teacher": "simulated"}
    started = time.monotonic()
    run = seedbed.wait(seedbed.start_run(dataset_id=dataset, method=method, target=target, options=options, **teacher))
    accepted, usage = run["counts"]["accepted"], run["usage"]
    if run["status"] != "succeeded" or accepted == 0:
        sys.exit(f"{label}: {run['status']} with {run['stop_reason']}, {accepted} accepted: {run['error']}")
    steps = {step["name"]: step for step in seedbed.report(run["id"])["economy"]["steps"]}
    seconds = time.monotonic() - started
    _print_progress(f"{label:<34} {accepted:>4} rows, {usage['requests']:>5} calls, {seconds:5.1f} s")
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
        "calls_per_accepted_by_step": {name: _per(step["calls"], accepted) for name, step in steps.items()},
        "instance_calls_per_accepted": _per(instances["calls"], accepted) if instances else None,
    }


def _upload(seedbed: Seedbed, dataset: str, kind: str, rows: list[dict], task: str | None = None) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        file.flush()
        imported = seedbed.wait(seedbed.import_file(dataset, Path(file.name), kind, task))
    if imported["status"] != "succeeded":
        sys.exit(f"the import of {kind} {imported['status']}: {imported['error']}")


def _documents() -> list[dict]:
    """Return documents of six long answers of the bundled seeds each, which are on many subjects."""
    texts = [instance.output for seed in load_seeds("english") for instance in seed.instances]
    long = [text for text in texts if len(text.split()) > 25 and "```" not in text]
    return [{"title": f"Notes {n}", "text": "\n\n".join(long[n : n + 6])} for n in range(0, len(long), 6)]


def _per(total: int, rows: int) -> float:
    return round(total / rows, 3)


def _print_progress(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
