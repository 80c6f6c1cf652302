"""Rows, jobs, and fixtures that run the recipe as Seedbed does: as a child process whose output is read by lines."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.waiting import PROCESS_SECONDS

os.environ["TOKENIZERS_PARALLELISM"] = "false"

ENGLISH = (
    ("Write one sentence about the {a} {n}.", "The {a} {n} waited in the morning light."),
    ("Name two things to do in the {n}.", "1. Walk slowly around the {n}.\n2. Draw something {a}."),
    ("Is this positive or negative?\n\nThe {n} was {a} and we loved it.", "positive"),
)
KOREAN = (
    ("{a} {n}에 대해 한 문장을 쓰세요.", "{a} {n}은 아침 햇살 속에서 사람들을 기다렸습니다."),
    ("{n}에서 할 일 두 가지를 알려 주세요.", "1. {n}을 천천히 걷습니다.\n2. {a} 것을 그립니다."),
    ("{n}이 왜 {a}지 설명하세요.", "{n}은 많은 사람이 지나가므로 {a} 곳입니다."),
)
VOCABULARY = (
    (ENGLISH, ("quiet", "busy", "old", "bright"), ("river", "garden", "library", "market", "forest")),
    (KOREAN, ("조용한", "바쁜", "오래된", "밝은"), ("강", "정원", "도서관", "시장", "숲")),
)


def chat_rows() -> list[dict]:
    """120 different rows, English and Korean in turn, in the form of a snapshot's messages file."""
    rows = []
    for templates, adjectives, nouns in VOCABULARY:
        for index, (prompt_template, answer_template) in enumerate(templates):
            for adjective in adjectives:
                for noun in nouns:
                    values = {"a": adjective, "n": noun}
                    turns = (("user", prompt_template), ("assistant", answer_template))
                    messages = [{"role": role, "content": text.format(**values)} for role, text in turns]
                    rows.append({"id": f"rec_{index}", "simulated": True, "messages": messages})
    return rows[::7] + [row for index, row in enumerate(rows) if index % 7]


def write_rows(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="session")
def make_job():
    """make_job(folder, train=60, validation=12, base_model=..., **hyperparameters) -> the job as a dict."""

    def make(
        folder: Path, train: int = 60, validation: int = 12, base_model: dict | None = None, **hyperparameters
    ) -> dict:
        folder.mkdir(parents=True, exist_ok=True)
        rows = chat_rows()
        files = {"train": write_rows(folder / "train.messages.jsonl", rows[:train])}
        if validation:
            held_out = rows[train : train + validation]
            files["validation"] = write_rows(folder / "validation.messages.jsonl", held_out)
        return {
            "output_dir": str(folder / "out"),
            "files": files,
            "base_model": base_model or {"kind": "tiny"},
            "method": "lora",
            "hyperparameters": {"max_length": 128, **hyperparameters},
            "seed": 7,
            "simulated": True,
        }

    return make


@pytest.fixture(scope="session")
def start():
    """start(job) -> the running child process, its job file beside the output folder."""

    def start_recipe(job: dict) -> subprocess.Popen:
        file = Path(job["output_dir"]).parent / "job.json"
        file.write_text(json.dumps(job), encoding="utf-8")
        command = [sys.executable, "-m", "workers.recipes.sft", str(file)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start_recipe


@pytest.fixture(scope="session")
def run(start):
    """run(job) -> status, events, errors. Fails on a stdout line that is not a JSON object with an event."""

    def run_recipe(job: dict) -> SimpleNamespace:
        process = start(job)
        out, errors = process.communicate(timeout=PROCESS_SECONDS)
        events = [json.loads(line) for line in out.splitlines()]
        assert all(isinstance(event.get("event"), str) for event in events)
        return SimpleNamespace(
            status=process.returncode, events=events, errors=errors, artifacts=Path(job["output_dir"]) / "artifacts"
        )

    return run_recipe
