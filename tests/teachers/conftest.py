"""One stack with one teacher for each case. All runs start together, and each test looks at its own."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.stack import Stack
from app.stack.state_dir import free_port
from tests.rest import post
from tests.teachers.case import Case
from tests.waiting import ENDED, FAST, HTTP_SECONDS, PROCESS_SECONDS, until, until_ended

ROOT = Path(__file__).parent.parent.parent
KEY = "sk-a-key-of-the-operator"
# Prices without a remainder at nine places, so that a sum of calls is the price of the sum.
TEACHER_TOML = """
[[teachers]]
name = "{name}"
base_url = "{url}"
model = "{model}"
api_key_env = "TEACHER_KEY"
prompt_price = "0.15"
cached_price = "0.075"
completion_price = "0.60"
in_flight = 8
replies = "{replies}"
timeout_seconds = {timeout}
{settings}
"""
SEEDS = (
    ("Name three fruits that grow on trees.", "Apples, pears and cherries grow on trees."),
    ("Explain why the sea is salty.", "Rivers carry salts from rocks into the sea, and only the water evaporates."),
    ("Write a title for a story about a lost key.", "The Door That Waited"),
    ("Give a rule of thumb for the size of a tip.", "Ten per cent of the bill is usual for good service."),
    ("Describe how to fold a paper boat.", "Fold the sheet in half, fold the corners down, and open the hat."),
    ("Suggest a name for a small bakery.", "The Morning Crust"),
    ("Compare a violin with a cello.", "A cello is larger, lower, and played between the knees."),
    ("List the steps of planting a bulb.", "Dig a hole, set the bulb with its tip up, cover it and water it."),
)


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    """The address of a simulated teacher."""
    argv = [sys.executable, "-u", "-m", "app.simulator", "--port", "0", "--latency", "0", "--near-duplicates", "0"]
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    yield re.search(r"http://\S+", process.stdout.readline()).group(0)
    process.terminate()
    assert process.wait(PROCESS_SECONDS) is not None


@pytest.fixture(scope="module")
def cases(request) -> list[Case]:
    """The cases of the tests that were selected."""
    items = [item for item in request.session.items if item.module is request.module and hasattr(item, "callspec")]
    return [item.callspec.params["case"] for item in items if "case" in item.callspec.params]


@pytest.fixture(scope="module")
def api(tmp_path_factory, simulator, cases) -> Iterator[httpx.Client]:
    """HTTP to a service that has these teachers."""
    state_dir = tmp_path_factory.mktemp("teachers")
    config = state_dir / "teachers.toml"
    config.write_text("".join(_describe(case, simulator) for case in cases), "utf-8")
    environment = FAST | {"TEACHER_KEY": KEY}
    with Stack(state_dir, port=free_port(), durable=False, environment=environment, config=config) as stack:
        headers = {"Authorization": f"Bearer {stack.api_key}"}
        with httpx.Client(base_url=stack.url, headers=headers, timeout=HTTP_SECONDS) as client:
            yield client


@pytest.fixture(scope="module")
def bills_of_checks(api, simulator, cases) -> dict[str, dict]:
    """What the checks have cost, by model. The teachers that are to be checked before their runs have been."""
    checks = [post(api, f"/v1/teachers/{case.teacher}/check", 202)[1] for case in cases if case.is_checked]
    for path in checks:
        ended = until_ended(api, path)
        assert ended["status"] == "succeeded", ended
    return _bills(simulator)


def _describe(case: Case, url: str) -> str:
    return TEACHER_TOML.format(
        name=case.teacher,
        url=url,
        model=case.model,
        replies=case.replies,
        timeout=case.timeout_seconds,
        settings=case.settings,
    )


@pytest.fixture(scope="module")
def run_paths(api, bills_of_checks, cases) -> dict[str, str]:
    """The paths of the runs, by the names of the teachers. All have been started."""
    return {case.teacher: _start(api, case) for case in cases}


def _start(api: httpx.Client, case: Case) -> str:
    tasks = [{"instruction": text, "instances": [{"input": "", "output": answer}]} for text, answer in SEEDS]
    # What a teacher repeats is a matter of its own: the thresholds leave duplicates alone.
    dataset, _ = post(api, "/v1/datasets", 201, name=case.teacher, seeds={"tasks": tasks})
    body = {"dataset_id": dataset["id"], "teacher": case.teacher, "target": case.target, "seed": 1}
    limits = {"max_requests": case.max_requests, "saturation_share": 0}
    _, path = post(api, "/v1/runs", 202, **body, **limits, method=case.method, options=case.options)
    return path


@pytest.fixture
def run(api, run_paths, case) -> dict:
    """The run of the case, once it has ended or waits for a person."""
    view: dict = {}

    def is_over() -> bool:
        view.update(api.get(run_paths[case.teacher]).json())
        is_waiting = view["status"] == "paused" and view["paused_for"] == "teacher_unusable"
        return view["status"] in ENDED or is_waiting

    until(is_over, 240, every=0.2, message=lambda: view)
    return view


@pytest.fixture
def bill(simulator, bills_of_checks, case) -> dict:
    """What the teacher of the case has billed for its run."""
    before, after = bills_of_checks.get(case.model, {}), _bills(simulator).get(case.model, {})
    return {name: after.get(name, 0) - before.get(name, 0) for name in ("prompt", "cached", "completion", "thought")}


def _bills(simulator: str) -> dict[str, dict]:
    return httpx.get(simulator.removesuffix("/v1") + "/stats", timeout=HTTP_SECONDS).json()["models"]
