"""The command line against the whole stack: the demo to its end, and the same path by single commands."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli.main import main
from tests.waiting import PROCESS_SECONDS

SEEDBED = Path(sys.executable).with_name("seedbed")


# They read the configuration of a process, which is loaded once.
IN_THEIR_OWN_PROCESS = ("demo", "keys")


@pytest.fixture
def seedbed(service, tmp_path, monkeypatch, capsys):
    """Runs a command on the service's state directory, in an empty folder, and returns what it printed."""
    state_dir = str(service.state_dir.path)
    for name in ("SEEDBED_URL", "SEEDBED_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SEEDBED_HOME", state_dir)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, status: int = 0) -> str:
        if arguments[0] in IN_THEIR_OWN_PROCESS:
            env = {"PATH": "/usr/bin:/bin", "SEEDBED_HOME": state_dir}
            done = subprocess.run(
                [SEEDBED, *arguments], capture_output=True, text=True, env=env, timeout=PROCESS_SECONDS
            )
            ended, out, err = done.returncode, done.stdout, done.stderr
        else:
            capsys.readouterr()
            with pytest.raises(SystemExit) as end:
                main(arguments)
            ended, (out, err) = end.value.code or 0, capsys.readouterr()
        assert ended == status, out + err
        assert "Traceback" not in err
        return out if status == 0 else err

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
    assert service.processes["api"].is_alive


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


def test_rows_are_judged_and_their_account_is_shown_by_single_commands(seedbed, tmp_path):
    tasks = [{"instruction": f"Name {n} lakes of Africa.", "instances": [{"output": "Chad"}]} for n in (2, 3, 5)]
    (tmp_path / "seeds.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    dataset = json.loads(seedbed("datasets", "create", f"judged {tmp_path.name}", "--json"))["id"]
    seedbed("datasets", "import", dataset, "seeds.jsonl", "--kind", "seeds")
    assert "nothing is judged" in seedbed("judgements", "start", dataset, "--options", '{"answer": false}', status=1)
    started = seedbed("judgements", "start", dataset, "--origin", "seed", "--max-usd", "1", "--wait", "--json")
    judgement = json.loads(started)
    assert (judgement["status"], judgement["done_rows"]) == ("succeeded", 3)
    assert judgement["id"] in seedbed("judgements", "list", "--dataset", dataset)
    assert "judge.overall" in seedbed("judgements", "report", judgement["id"])
    assert "succeeded" in seedbed("judgements", "wait", judgement["id"])
    account = judgement["account_id"]
    assert judgement["id"] in seedbed("accounts", "list", "--owner", judgement["id"])
    assert "stopped" in seedbed("accounts", "show", account)
    assert "judge_answer" in seedbed("accounts", "report", account)
    assert json.loads(seedbed("accounts", "release", account, "--json"))["usage"] == judgement["usage"]


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


def test_other_methods_from_the_command_line(seedbed, tmp_path):
    """Every method is one command; its report tells what it cost."""
    lines = [{"text": f"text {n}", "label": n % 2} for n in range(20)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "Owls.md").write_text(
        " ".join(f"Owl {n} lives in barn {n} and hunts {n + 2} mice." for n in range(120))
    )
    name = f"methods {tmp_path.name}"
    dataset = json.loads(seedbed("datasets", "create", name, "--bundled", "english", "--json"))["id"]
    seedbed("datasets", "import", dataset, "rows.jsonl", "--kind", "labelled", "--task", "sentiment")
    seedbed("datasets", "import", dataset, "Owls.md", "--kind", "documents")
    options = {"dialogue": '{"max_turns": 2}', "responses": '{"parents": {"origin": "seed"}}'}
    for method in ("evol_instruct", "responses", "dialogue", "templates", "documents", "safety"):
        arguments = ("--method", method, "--target", "3", "--options", options.get(method, "{}"))
        run = json.loads(seedbed("runs", "start", dataset, *arguments, "--wait", "--json"))
        assert (run["stop_reason"], run["counts"]["accepted"]) == ("target_reached", 3), method
        report = seedbed("runs", "report", run["id"])
        assert f"{method}  3 accepted" in report and "quality of 3 rows" in report
    assert "share_good" not in report and "no_harm" in report
    snapshot = json.loads(seedbed("snapshots", "create", dataset, "--reasoning", "include", "--json"))
    assert snapshot["rows"] == 18
    scoring = json.loads(seedbed("likelihood-scores", "start", dataset, "--run", run["id"], "--wait", "--json"))
    assert scoring["summary"]["scored"] == 3


def test_methods_tasks_and_teachers_are_shown(seedbed):
    methods = seedbed("methods")
    assert "evol_instruct" in methods and "passages" in methods
    assert "rounds" in seedbed("methods", "evol_instruct") and "No method" in seedbed("methods", "nope", status=1)
    assert "translation" in seedbed("tasks")
    assert "is not JSON" in seedbed("runs", "start", "ds_1", "--target", "1", "--options", "{", status=1)


def test_a_teacher_is_checked_and_what_was_found_is_kept(seedbed, service):
    config = service.state_dir.path / "stack.toml"
    env = {"SEEDBED_CONFIG": str(config), "PATH": "/usr/bin:/bin", "SEEDBED_HOME": str(service.state_dir.path)}
    done = subprocess.run(
        [SEEDBED, "teachers", "check"], capture_output=True, text=True, env=env, timeout=PROCESS_SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert "works  json_schema" in done.stdout and "as checked" in done.stdout
    assert "json_schema" in seedbed("teachers", "list")
    missing = subprocess.run(
        [SEEDBED, "teachers", "check", "x"], capture_output=True, text=True, env=env, timeout=PROCESS_SECONDS
    )
    assert missing.returncode == 1 and "there are: simulated" in missing.stderr


def test_the_requests_of_a_run_are_shown_before_it_is_paid_for(seedbed, tmp_path):
    dataset = json.loads(seedbed("datasets", "create", f"shown {tmp_path.name}", "--bundled", "korean", "--json"))["id"]
    options = json.dumps({"prompts": {"evol_equal": {"system": "ONE OR TWO?"}}})
    arguments = ("runs", "preview", dataset, "--method", "evol_instruct", "--options", options, "--show-prompts")
    out = seedbed(*arguments)
    assert "== evolve, sent to the teacher" in out and "-- system" in out and "temperature 1.0" in out
    assert "ONE OR TWO?" in out and "custom:evol_equal@" in out and "⟦" in out
    steps = [prompt["step"] for prompt in json.loads(seedbed(*arguments, "--json"))["prompts"]]
    assert steps == ["evolve", "evol_equal", "answer", "evolve"]
    assert "run_" not in seedbed("runs", "list", "--dataset", dataset)
    templates = seedbed("runs", "preview", dataset, "--method", "templates", "--show-prompts", status=1)
    assert "no labelled rows" in templates
