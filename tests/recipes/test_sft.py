"""The recipe as a real child process: its events, its files, its failures."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.training_jobs.jobs import FineTuneJob
from tests.waiting import PROCESS_SECONDS
from workers.recipes.chat_dataset import encode_dialogues, read_messages
from workers.recipes.evaluate import evaluate
from workers.recipes.fine_tune import fine_tune
from workers.recipes.job import read_job
from workers.recipes.process import report_failure


def events_named(events: list[dict], name: str) -> list[dict]:
    return [event for event in events if event["event"] == name]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, make_job, run):
    job = make_job(tmp_path_factory.mktemp("tiny"))
    result = run(job)
    assert result.status == 0, result.errors
    result.job = job
    return result


def test_validation_loss_falls_on_a_model_made_on_the_spot(finished):
    before, after = events_named(finished.events, "evaluation")
    last_event = finished.events[-1]
    assert (before["split"], before["when"], after["when"]) == ("validation", "before", "after")
    assert after["loss"] < before["loss"] and after["rows"] == 12
    assert last_event["event"] == "done" and last_event["split"] == "validation" and last_event["train_rows"] == 60
    assert (last_event["loss_before"], last_event["loss_after"]) == (before["loss"], after["loss"])
    (base,) = events_named(finished.events, "base_model")
    assert base["made_on_the_spot"] and 1_000_000 < base["weights"] < 5_000_000
    assert "only the train file's text" in base["note"]


def test_stages_come_in_order_and_metrics_count_up(finished):
    assert [stage["stage"] for stage in events_named(finished.events, "stage")] == [
        "load", "base_model", "evaluate_before", "train", "evaluate_after", "save",
    ]  # fmt: skip
    metrics = events_named(finished.events, "metrics")
    steps, tokens = [row["step"] for row in metrics], [row["tokens"] for row in metrics]
    assert 10 <= len(metrics) <= 50 and steps == sorted(set(steps)) and tokens == sorted(set(tokens))
    assert metrics[-1]["tokens"] == finished.events[-1]["tokens"]
    progress = events_named(finished.events, "progress")
    assert progress[-1]["step"] == progress[-1]["total_steps"] and progress[-1]["loss"] < progress[0]["loss"]


def test_every_artifact_is_reported_with_its_digest_and_contains_no_path_of_this_machine(finished):
    entries = {event["name"]: event for event in events_named(finished.events, "artifact")}
    files = {path.relative_to(finished.artifacts).as_posix(): path for path in finished.artifacts.rglob("*.*")}
    assert set(entries) == set(files)
    assert {"adapter_model.safetensors", "base/model.safetensors", "README.md", "metrics.jsonl"} <= set(entries)
    for name, path in files.items():
        content = path.read_bytes()
        assert entries[name]["sha256"] == hashlib.sha256(content).hexdigest() and entries[name]["bytes"] == len(content)
        assert str(finished.artifacts.parent).encode() not in content
    config = json.loads((finished.artifacts / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "base" and config["target_modules"] == sorted(config["target_modules"])
    card = (finished.artifacts / "README.md").read_text(encoding="utf-8")
    train = Path(finished.job["files"]["train"]).read_bytes()
    assert "simulated teacher: it teaches a model nothing" in card and hashlib.sha256(train).hexdigest() in card
    assert sorted(os.listdir(finished.artifacts.parent)) == ["artifacts"]


def test_adapter_on_its_saved_base_gives_the_same_loss_again(finished):
    base = finished.artifacts / "base"
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), finished.artifacts)
    tokenizer = AutoTokenizer.from_pretrained(finished.artifacts)
    dialogues = read_messages(Path(finished.job["files"]["validation"]))
    again = evaluate(model, tokenizer.pad_token_id, encode_dialogues(dialogues, tokenizer, max_length=128).rows)
    assert again.loss == pytest.approx(finished.events[-1]["loss_after"], abs=1e-3)


def test_same_job_gives_the_same_adapter(finished, tmp_path, make_job, run):
    again = run(make_job(tmp_path))
    digests = [
        {e["name"]: e["sha256"] for e in events_named(result.events, "artifact") if e["name"] != "metrics.jsonl"}
        for result in (finished, again)
    ]
    assert digests[0] == digests[1]


def test_local_path_model_with_packing_and_no_held_out_rows(finished, tmp_path, make_job, run):
    folder = str(finished.artifacts / "base")
    job = make_job(tmp_path, validation=0, base_model={"kind": "path", "path": folder}, packing=True, max_steps=3)
    result = run(job)
    assert result.status == 0, result.errors
    (base,) = events_named(result.events, "base_model")
    assert (base["name"], base["made_on_the_spot"]) == ("base", False)
    assert not events_named(result.events, "evaluation") and result.events[-1]["split"] == "train"
    assert result.events[-1]["steps"] == 3 and not (result.artifacts / "base").exists()
    assert folder not in (result.artifacts / "adapter_config.json").read_text()


def test_a_known_failure_ends_the_process_with_status_2_and_one_error_event(tmp_path, make_job, run):
    result = run({**make_job(tmp_path, train=4), "colour": "red"})
    (error,) = result.events
    assert (result.status, error["event"], error["kind"]) == (2, "error", "invalid_job")
    assert "colour" in error["message"]
    assert not result.artifacts.exists()


@pytest.mark.parametrize(
    ("rows", "change", "kind", "message"),
    [
        (4, {"hyperparameters": {"learning_rate": -1}}, "invalid_job", "hyperparameters.learning_rate"),
        (4, {"files": {"train": "/nowhere/train.messages.jsonl"}}, "invalid_job", "train.messages.jsonl"),
        (4, {"files": {"train": "/dev/null/nothing"}}, "invalid_job", "nothing"),
        (4, {"base_model": {"kind": "path", "path": "/nowhere/some-model"}}, "base_model_not_found", "some-model"),
        (0, {}, "empty_train", "no rows"),
    ],
)
def test_known_failures_name_what_is_wrong(rows, change, kind, message, tmp_path, make_job):
    status, error = fail({**make_job(tmp_path, train=rows), **change}, tmp_path / "job.json")
    assert (status, error["event"], error["kind"]) == (2, "error", kind)
    assert message in error["message"] and "/nowhere" not in error["message"]
    assert not (tmp_path / "out" / "artifacts").exists()


def fail(job: dict, file: Path) -> tuple[int, dict]:
    """Exit status and last event of a job that fails, without the seconds that a process of its own takes."""
    file.write_text(json.dumps(job), encoding="utf-8")
    events = []
    try:
        fine_tune(read_job(file, FineTuneJob), lambda event, **fields: events.append({"event": event, **fields}))
    except Exception as error:
        return report_failure(error, lambda event, **fields: events.append({"event": event, **fields})), events[-1]
    raise AssertionError("the job did not fail")


def test_sigterm_ends_it_at_once_and_leaves_no_artifacts(tmp_path, make_job, start):
    # So many steps that it would train for minutes: only the signal can end it now.
    job = make_job(tmp_path, train=8, validation=0, max_steps=5000)
    process = start(job)
    for line in process.stdout:
        if json.loads(line)["event"] == "progress":
            break
    process.send_signal(signal.SIGTERM)
    remaining_output, _ = process.communicate(timeout=PROCESS_SECONDS)
    assert process.returncode == -signal.SIGTERM
    assert "done" not in [json.loads(line)["event"] for line in remaining_output.splitlines()]
    assert not (Path(job["output_dir"]) / "artifacts").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's parent-death signal is Linux's")
def test_recipe_dies_with_its_parent():
    sleeper = "from workers.recipes.process import die_with_parent as d; import time; d(); "
    sleeper += "print('ready', flush=True); time.sleep(600)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {sleeper!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.kill()
        # The pipe closes only when the grandchild is gone, too: else this waits for the ten minutes of its sleep.
        assert process.stdout.read() == ""
