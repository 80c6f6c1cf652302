"""The command line against the whole stack: the demo to its end, and the same path by single commands."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SEEDBED = Path(sys.executable).with_name("seedbed")


@pytest.fixture
def seedbed(service, tmp_path):
    """Runs a command on the service's home, in an empty folder."""
    env = {"PATH": "/usr/bin:/bin", "SEEDBED_HOME": str(service.home.path)}

    def run(*arguments: str, status: int = 0) -> str:
        command = [SEEDBED, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=300)
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout if status == 0 else done.stderr

    return run


def test_the_demo_walks_to_the_end_and_leaves_files_that_read_back(seedbed, service, tmp_path):
    out = seedbed("demo", "--target", "20")
    assert f"Using the stack that runs at {service.url}" in out
    for line in ("accepted       20", "teacher calls", "cost           $0.", "loss  ", "teaches a model nothing"):
        assert line in out
    assert "\x1b" not in out
    [folder] = (tmp_path / "demo-output").iterdir()
    rows = (folder / "snapshot" / "train.alpaca.jsonl").read_text("utf-8").splitlines()
    assert all(json.loads(row)["output"] for row in rows)
    assert (folder / "fine-tune" / "adapter_model.safetensors").stat().st_size > 1000
    assert service.processes["api"].alive


def test_seeds_and_records_come_in_and_a_snapshot_goes_out_by_single_commands(seedbed, tmp_path):
    tasks = [{"instruction": f"Name {n} rivers of Asia.", "instances": [{"output": "Mekong"}]} for n in (2, 3, 5)]
    rows = [{"instruction": text, "input": "", "output": "Yes."} for text in ("Is tea hot?", "Do owls fly at night?")]
    for name, lines in (("seeds", tasks), ("rows", rows), ("bad", [{"instruction": 3}])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    dataset = json.loads(seedbed("datasets", "create", f"live {tmp_path.name}", "--json"))["id"]
    seedbed("datasets", "import", dataset, "seeds.jsonl", "--kind", "seeds")
    assert "line/1/instruction" in seedbed("datasets", "import", dataset, "bad.jsonl", status=1)
    imported = json.loads(seedbed("datasets", "import", dataset, "rows.jsonl", "--json"))
    assert imported["rows"] == imported["accepted"] + imported["rejected"] == 2
    assert "seeds 3" in seedbed("datasets", "show", dataset)
    assert "owls" in seedbed("records", dataset, "--origin", "imported")
    snapshot = json.loads(seedbed("snapshots", "create", dataset, "--form", "alpaca", "--json"))
    assert snapshot["status"] == "succeeded"
    seedbed("snapshots", "download", snapshot["id"], "--to", "here")
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == sorted(f["name"] for f in snapshot["files"])


def test_a_run_is_started_followed_and_cancelled(seedbed, tmp_path):
    dataset = json.loads(seedbed("datasets", "create", f"run {tmp_path.name}", "--bundled", "korean", "--json"))["id"]
    run = json.loads(seedbed("runs", "start", dataset, "--target", "5000", "--json"))["id"]
    seedbed("runs", "cancel", run)
    assert "cancelled" in seedbed("runs", "wait", run, status=1) or "cancelled" in seedbed("runs", "show", run)
    assert run in seedbed("runs", "list", "--dataset", dataset)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("runs", "show", "run_0"), "No run with the id"),
        (("runs", "show", "run_0", "--key", "sb_a_b"), "not known here"),
        (("datasets", "create", "x", "--bundled", "klingon"), "english, korean"),
        (("runs", "start", "ds_0", "--target", "0"), "/target"),
    ],
)
def test_what_the_service_refuses_is_told_in_its_words(seedbed, arguments, words):
    assert words in seedbed(*arguments, status=1)


def test_a_new_key_of_another_project_sees_nothing(seedbed, tmp_path):
    seedbed("datasets", "create", f"mine {tmp_path.name}")
    key = seedbed("keys", "create", "--project", f"other {tmp_path.name}").strip()
    assert seedbed("datasets", "list", "--key", key, "--json") == ""
