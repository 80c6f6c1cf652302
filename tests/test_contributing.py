"""docs/contributing.md: each worked example is applied to a copy of the code, and what it added is used."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PROCESS_SECONDS

ROOT = Path(__file__).parent.parent
SECTIONS = dict(
    section.split("\n", 1) for section in (ROOT / "docs" / "contributing.md").read_text("utf-8").split("\n## ")[1:]
)
FILES = {"An operation": 1, "An export form": 1, "A rule": 1, "An endpoint": 3, "A method": 2, "A teacher protocol": 1}

TEST_HELPERS = ("tests/fakes.py", "tests/waiting.py", "tests/providers/conformance.py")


def changes(section: str) -> list[tuple[str, str, str]]:
    """(file, kind of the fence, text) of each example; one without a file goes on with the file before."""
    found, path = [], ""
    for match in re.finditer(r"(?:`([\w/.]+)`(?:, a new file)?:\n\n)?```(diff|python)\n(.*?)\n```", section, re.DOTALL):
        path = match.group(1) or path
        found.append((path, match.group(2), match.group(3)))
    return found


def apply(code: Path, path: str, kind: str, text: str) -> None:
    """A diff names the lines that it stands beside; they stand in the file exactly once."""
    if kind == "python":
        (code / path).write_text(text + "\n", "utf-8")
        return
    lines = text.split("\n")
    before = "\n".join(line[1:] for line in lines if not line.startswith("+")) + "\n"
    after = "\n".join(line[1:] for line in lines if not line.startswith("-")) + "\n"
    old = (code / path).read_text("utf-8")
    assert old.count(before) == 1, f"{path} has no single place for {before!r}"
    (code / path).write_text(old.replace(before, after), "utf-8")


@pytest.fixture
def changed(request, tmp_path) -> Path:
    """The code with one section's examples applied."""
    shutil.copytree(ROOT / "app", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "workers", tmp_path / "workers", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "import_rules.toml", tmp_path)
    (tmp_path / "tests" / "providers").mkdir(parents=True)
    for path in TEST_HELPERS:
        shutil.copy(ROOT / path, tmp_path / path)
    for change in changes(SECTIONS[request.param]):
        apply(tmp_path, *change)
    return tmp_path


def python(code: Path, script: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(code), "DATABASE_URL": "postgresql://x", "REDIS_URL": "redis://x"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=code, env=environment, capture_output=True, text=True, timeout=PROCESS_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("changed", ["A method", "A teacher protocol"], indirect=True)
def test_a_new_module_of_an_example_has_its_layer(changed):
    linter = Path(sys.executable).with_name("lint-imports")
    command = [linter, "--no-cache", "--config", "import_rules.toml"]
    done = subprocess.run(command, cwd=changed, capture_output=True, text=True, timeout=PROCESS_SECONDS)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", FILES)
def test_an_example_touches_as_many_files_of_code_as_the_table_says(name):
    assert (
        len({path for path, _, _ in changes(SECTIONS[name]) if path.startswith("app/") and path.endswith(".py")})
        == FILES[name]
    )


OPERATION = """
import asyncio
from app.synth.methods import evol_instruct
from app.synth.methods.registry import METHODS
from app.synth.methods.operations import WEIGHTS
from app.synth.methods.preview import preview
from app.synth.types import Batch, Parent

method = METHODS["evol_instruct"]
assert evol_instruct.Options().weights == WEIGHTS and "analogy" not in WEIGHTS
for language, words in (("en", "by an analogy"), ("ko", "비유로")):
    batch = Batch(method.options(operations={"analogy": 1}), language, 1, parents=(Parent("r", "Why is tea hot?"),))
    prompts = asyncio.run(preview(method, batch))
    assert words in prompts[0].user and prompts[0].operation == "analogy"
"""
FORM = """
import json, pathlib
from app import synth
from app.snapshots.schemas import SnapshotCreate

row = synth.Candidate("Add", "1 1", "2")
assert synth.write_jsonl([row], "rows.jsonl", "prompt_completion") == 1
assert json.loads(pathlib.Path("rows.jsonl").read_text()) == {"prompt": "Add\\n\\n1 1", "completion": "2"}
assert SnapshotCreate(dataset_id="ds", forms=["prompt_completion"]).forms == ["prompt_completion"]
assert "prompt_completion" in str(SnapshotCreate.model_json_schema())
"""
RULE = """
from app import synth
from app.synth.quality.filters import check_row
from app.synth.methods.registry import METHODS

rules = [{"name": "shouting", "parameter": 0.4, "on": "output"}]
for method in METHODS.values():
    options = method.options(rules=rules)
    broken = check_row(synth.Candidate("Name a river", "", "THE RHINE"), options.rules_for("en"))
    assert (broken.reason, broken.value, broken.threshold) == ("shouting:output", 1.0, 0.4)
    assert "Shouting" in method.options.model_json_schema()["$defs"]
"""
ENDPOINT = """
from app.main import create_app

operation = create_app().openapi()["paths"]["/v1/runs/{id}/reasons"]["get"]
assert operation["operationId"] == "getRunReasons"
assert operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("ReasonsView")
"""
METHOD = """
from app import synth

answer = "It was boiled in a kettle. Then it was poured."
records = [synth.Parent(f"r{n}", f"Why is tea of kind {n} hot?", "", answer) for n in range(3)]
grown = synth.grow("first_sentence", [], None, 3, records=records)
assert [row.output for row in grown.accepted] == ["It was boiled in a kettle"] * 3
assert grown.calls == 0
"""
PROTOCOL = """
import pytest
from app.config import TeacherConfig

assert TeacherConfig(name="t", protocol="ollama", base_url="http://x", model="m").address == "http://x"
arguments = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "tests/providers/test_ollama.py"]
assert pytest.main(arguments) == 0
"""
SCRIPTS = {
    "An operation": OPERATION,
    "An export form": FORM,
    "A rule": RULE,
    "An endpoint": ENDPOINT,
    "A method": METHOD,
    "A teacher protocol": PROTOCOL,
}


@pytest.mark.parametrize(("changed", "script"), SCRIPTS.items(), indirect=["changed"], ids=SCRIPTS)
def test_what_an_example_adds_works(changed, script):
    python(changed, script)
