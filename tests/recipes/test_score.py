"""Local scores against the plain definition, and the recipe as a process."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from app.training_jobs.jobs import BaseModelSource, ScoreJob
from tests.waiting import PROCESS_SECONDS
from workers.recipes.chat_dataset import common_prefix_length, render_dialogue
from workers.recipes.failures import Failure
from workers.recipes.job import read_job
from workers.recipes.likelihood import Scorer, read_rows

PAIRS = [
    ("Name a river of Europe.", "The Rhine is a river of Europe."),
    ("What is tea?", "Tea is a drink made of leaves and hot water."),
    ("서울의 강 이름을 쓰세요.", "한강입니다."),
    ("Say yes.", "yes"),
]
ROWS = [
    (f"r{n}", [{"role": "user", "content": question}, {"role": "assistant", "content": answer}])
    for n, (question, answer) in enumerate(PAIRS * 3)
]
DIALOGUE = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hello to you"},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "Bye then"},
]


def job(tmp_path: Path, max_length: int = 128) -> ScoreJob:
    return ScoreJob(rows=tmp_path / "rows.jsonl", base_model=BaseModelSource(kind="tiny"), max_length=max_length)


@pytest.fixture(scope="module")
def scorer(tmp_path_factory) -> Scorer:
    return Scorer(job(tmp_path_factory.mktemp("score")), [*ROWS, ("talk", DIALOGUE)], lambda *args, **fields: None)


@torch.no_grad()
def reference_scores(scorer: Scorer, dialogue: list[dict]) -> tuple[float, float]:
    """(perplexity, ifd) of one row, without batches, padding or masks."""
    tokenizer, model = scorer.base.tokenizer, scorer.model
    prompt, dialogue_ids = (
        render_dialogue(dialogue[:-1], tokenizer, add_generation_prompt=True),
        render_dialogue(dialogue, tokenizer),
    )
    answer = dialogue_ids[common_prefix_length(prompt, dialogue_ids) :]
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id

    def loss(ids: list[int]) -> float:
        logits = model(torch.tensor([ids])).logits[0, :-1].float()
        return cross_entropy(logits[-len(answer) :], torch.tensor(ids[-len(answer) :])).item()

    conditional_loss, unconditional_loss = loss(dialogue_ids), loss([first, *answer])
    return math.exp(conditional_loss), math.exp(conditional_loss - unconditional_loss)


def test_scores_are_those_of_the_plain_definition(scorer):
    scores_by_id = {score["id"]: score for score in scorer.scores()}
    assert len(scores_by_id) == len(ROWS) + 1
    for id, dialogue in [*ROWS, ("talk", DIALOGUE)]:
        perplexity, ifd = reference_scores(scorer, dialogue)
        assert scores_by_id[id]["perplexity"] == pytest.approx(perplexity, rel=1e-3)
        assert scores_by_id[id]["ifd"] == pytest.approx(ifd, rel=1e-3)
        assert scores_by_id[id]["tokens"] > 0 and not scores_by_id[id]["truncated"]


def test_scores_do_not_depend_on_the_size_of_a_batch(scorer):
    batched = {score["id"]: score["perplexity"] for score in scorer.scores()}
    scorer.max_tokens, max_tokens = 1, scorer.max_tokens
    separately = {score["id"]: score["perplexity"] for score in scorer.scores()}
    scorer.max_tokens = max_tokens
    assert batched == pytest.approx(separately, rel=1e-3)


class SmallMemory:
    """A model that has memory for four texts at once."""

    def __init__(self, model: torch.nn.Module):
        self.model, self.config, self.device = model, model.config, model.device
        self.sizes: list[int] = []

    def __call__(self, input_ids: torch.Tensor, **options):
        self.sizes.append(len(input_ids))
        if len(input_ids) > 4:
            raise RuntimeError("CUDA out of memory. Tried to allocate")
        return self.model(input_ids=input_ids, **options)


def test_insufficient_memory_halves_the_batch(tmp_path):
    scorer = Scorer(job(tmp_path), ROWS, lambda *args, **fields: None)
    scorer.model, scorer.max_tokens = SmallMemory(scorer.model), 10**9
    assert len(list(scorer.scores())) == len(ROWS)
    assert max(scorer.model.sizes) > 4 and min(scorer.model.sizes) <= 4


def test_a_truncated_row_is_marked_and_a_row_without_an_answer_has_no_score(tmp_path):
    long = [{"role": "user", "content": "word " * 200}, {"role": "assistant", "content": "yes"}]
    half = [{"role": "user", "content": "Go on"}, {"role": "assistant", "content": "word " * 300}]
    scorer = Scorer(job(tmp_path, 64), [*ROWS, ("long", long), ("half", half)], lambda *args, **fields: None)
    scores_by_id = {score["id"]: score for score in scorer.scores()}
    assert scores_by_id["long"]["perplexity"] is None and "max_length" in scores_by_id["long"]["reason"]
    assert scores_by_id["half"]["truncated"] and scores_by_id["half"]["perplexity"] > 0


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "has no rows"),
        ('{"id": "a"}\n', "line 1"),
        ('{"id": "a", "messages": []}\n', "line 1"),
        ("[1]\n", "line 1"),
        ('{"id": "a", "messages": [{"role": "assistant", "content": "x"}]}\n', "line 1"),
    ],
)
def test_lines_that_cannot_be_read_are_reported(tmp_path, lines, message):
    (tmp_path / "rows.jsonl").write_text(lines)
    with pytest.raises(Failure, match=message):
        read_rows(tmp_path / "rows.jsonl")


def test_the_recipe_as_a_process(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"id": id, "messages": dialogue}) + "\n" for id, dialogue in ROWS), "utf-8")
    (tmp_path / "job.json").write_text(json.dumps({"rows": str(rows), "base_model": {"kind": "tiny"}}))
    process = run(tmp_path / "job.json")
    events = [json.loads(line) for line in process.stdout.splitlines()]
    assert process.returncode == 0, process.stderr
    scores = [score for event in events if event["event"] == "scores" for score in event["scores"]]
    assert {score["id"] for score in scores} == {id for id, _ in ROWS}
    assert events[-1]["event"] == "done" and events[-1]["scored"] == len(ROWS)


@pytest.mark.parametrize(
    ("content", "message"),
    [({"rows": "relative"}, "absolute path"), ({"rows": "/x", "nope": 1}, "Unknown field 'nope'"), ([], "an object")],
)
def test_a_bad_job_is_rejected_with_a_message(tmp_path, content, message):
    job = content if isinstance(content, list) else {"base_model": {"kind": "tiny"}, **content}
    (tmp_path / "job.json").write_text(json.dumps(job))
    with pytest.raises(Failure, match=message):
        read_job(tmp_path / "job.json", ScoreJob)


def run(path: Path) -> subprocess.CompletedProcess:
    root = Path(__file__).parent.parent.parent
    argv = [sys.executable, "-m", "workers.recipes.score", str(path)]
    return subprocess.run(argv, cwd=root, capture_output=True, text=True, timeout=PROCESS_SECONDS)
