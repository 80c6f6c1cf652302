"""Measures what shared calls save: calls and tokens per row of a method before and after, by its options.

`make bench-economy` runs it after the methods. The last line printed is one JSON object. The processes, the simulated
teacher and its faults are those of bench.economy: it counts calls and tokens, and measures no times.
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass

from app.client import Seedbed
from app.stack import Stack
from bench.economy import (
    FAULTS,
    NEAR_DUPLICATES,
    create_document_dataset,
    create_seed_dataset,
    measure_method,
    simulator_arguments,
)

COUNTS = ("calls", "prompt_tokens", "cached_tokens", "completion_tokens")


@dataclass(frozen=True)
class Variant:
    """Two sets of options of one method.

    Attributes:
        name: what the options change.
        method: the name of the method.
        before: the options with more calls.
        after: the options with fewer calls.
        is_default: whether `after` is the default of the method.
        share: the share of the bench's rows that each run accepts.
    """

    name: str
    method: str
    before: dict
    after: dict
    is_default: bool
    share: float = 1.0


BEST_OF_3 = {"parents": {"answered": True}, "answers": 3}
VARIANTS = (
    Variant("classification with the instructions", "self_instruct", {"classification": "own_call"}, {}, True),
    Variant("instances together", "self_instruct", {}, {"instances": "together"}, False),
    Variant(
        "best of 3: answers and judgement in one call each",
        "responses",
        BEST_OF_3 | {"answer_calls": "one_each", "choose_by": "score"},
        BEST_OF_3,
        True,
        0.4,
    ),
    Variant("faithfulness in one call per passage", "documents", {"faithfulness_calls": "one_each"}, {}, True, 0.4),
)


def main() -> None:
    """Make two runs of each variant and print their costs."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=100, help="accepted rows of each run of self_instruct")
    rows = options.parse_args().rows
    load_average = os.getloadavg()[0]
    stack = Stack(
        tempfile.mkdtemp(prefix="seedbed-economy-"),
        durable=False,
        simulator_options=simulator_arguments(),
        say=lambda line: print(line, flush=True),
    )
    with stack, Seedbed(stack.url, stack.api_key) as seedbed:
        results = [measure_variant(seedbed, variant, max(10, round(rows * variant.share))) for variant in VARIANTS]
    print(
        json.dumps(
            {
                "bench": "economy_variants",
                "rows": rows,
                "near_duplicates": float(NEAR_DUPLICATES),
                "faults": round(sum(FAULTS.values()), 3),
                "load_average_at_start": round(load_average, 1),
                "variants": results,
            }
        )
    )
    if not all(result["fewer_calls"] for result in results):
        sys.exit("a variant made no fewer calls than the options before it")


def measure_variant(seedbed: Seedbed, variant: Variant, target: int) -> dict:
    """Make a run with each set of options, and return the counts per accepted row of both."""
    measured = {
        name: _measure(seedbed, variant, options, f"{variant.name}, {name}", target)
        for name, options in (("before", variant.before), ("after", variant.after))
    }
    before, after = measured["before"], measured["after"]
    for name in COUNTS:
        print(f"  {name:<18} {before[name]:>9.2f} -> {after[name]:>9.2f} per accepted row", flush=True)
    return {
        "variant": variant.name,
        "method": variant.method,
        "after_is_default": variant.is_default,
        **measured,
        "fewer_calls": after["calls"] < before["calls"],
    }


def _measure(seedbed: Seedbed, variant: Variant, options: dict, label: str, target: int) -> dict:
    # A dataset of its own for each run: rows of another run would cause more duplicates.
    create = create_document_dataset if variant.method == "documents" else create_seed_dataset
    result = measure_method(seedbed, label, create(seedbed, label), variant.method, target, options)
    return {
        "options": options,
        "accepted": result["accepted"],
        **{name: result[f"{name}_per_accepted"] for name in COUNTS},
        "calls_by_step": result["calls_per_accepted_by_step"],
        "rejected": result["rejected"],
    }


if __name__ == "__main__":
    main()
