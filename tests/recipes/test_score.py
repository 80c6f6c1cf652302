"""Local scores against the plain definition, and the recipe as a process."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.waiting import PROCESS_SECONDS
from workers.recipes.chat_dataset import common_prefix, render
from workers.recipes.failures import Failure
from workers.recipes.job import BaseModel
from workers.recipes.likelihood import Scorer, read_rows
from workers.recipes.score_job import ScoreJob, read_score_job

PAIRS = [
    ("Name a river of Europe.", "The Rhine is a river of Europe."),
    ("What is tea?", "Tea is a drink made of leaves and hot water."),
    ("서울의 강 이름을 쓰세요.", "한강입니다."),
    ("Say yes.", "yes"),
]
ROWS = [
    (f"r{n}", [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}])
    for n, (asked, answer) in enumerate(PAIRS * 3)
]
TALK = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hello to you"},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "Bye then"},
]


def job(tmp_path: Path, max_length: int = 128) -> ScoreJob:
    return ScoreJob(tmp_path / "rows.jsonl", BaseModel("tiny"), max_length, 0)


@pytest.fixture(scope="module")
def scorer(tmp_path_factory) -> Scorer:
    return Scorer(job(tmp_path_factory.mktemp("score")), [*ROWS, ("talk", TALK)], lambda *args, **fields: None)


@torch.no_grad()
def plain(scorer: Scorer, dialogue: list[dict]) -> tuple[float, float]:
    """(perplexity, ifd) of one row, without batches, padding or masks."""
    tokenizer, model = scorer.base.tokenizer, scorer.model
    prompt, whole = render(dialogue[:-1], tokenizer, add_generation_prompt=True), render(dialogue, tokenizer)
    answer = whole[common_prefix(prompt, whole) :]
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id

    def loss(ids: list[int]) -> float:
        logits = model(torch.tensor([ids])).logits[0, :-1].float()
        return cross_entropy(logits[-len(answer) :], torch.tensor(ids[-len(answer) :])).item()

    given, alone = loss(whole), loss([first, *answer])
    return math.exp(given), math.exp(given - alone)


def test_scores_are_those_of_the_plain_definition(scorer):
    found = {one["id"]: one for one in scorer.scores()}
    assert len(found) == len(ROWS) + 1
    for id, dialogue in [*ROWS, ("talk", TALK)]:
        perplexity, ifd = plain(scorer, dialogue)
        assert found[id]["perplexity"] == pytest.approx(perplexity, rel=1e-3)
        assert found[id]["ifd"] == pytest.approx(ifd, rel=1e-3)
        assert found[id]["tokens"] > 0 and not found[id]["truncated"]


def test_the_size_of_a_batch_does_not_show(scorer):
    many = {one["id"]: one["perplexity"] for one in scorer.scores()}
    scorer.tokens_at_once, kept = 1, scorer.tokens_at_once
    one_by_one = {one["id"]: one["perplexity"] for one in scorer.scores()}
    scorer.tokens_at_once = kept
    assert many == pytest.approx(one_by_one, rel=1e-3)


class SmallMemory:
    """A model that has memory for four texts at once."""

    def __init__(self, model: torch.nn.Module):
        self.model, self.config, self.device = model, model.config, model.device
        self.sizes: list[int] = []

    def __call__(self, input_ids: torch.Tensor, **more):
        self.sizes.append(len(input_ids))
        if len(input_ids) > 4:
            raise RuntimeError("CUDA out of memory. Tried to allocate")
        return self.model(input_ids=input_ids, **more)


def test_memory_that_is_not_enough_halves_the_batch(tmp_path):
    scorer = Scorer(job(tmp_path), ROWS, lambda *args, **fields: None)
    scorer.model, scorer.tokens_at_once = SmallMemory(scorer.model), 10**9
    assert len(list(scorer.scores())) == len(ROWS)
    assert max(scorer.model.sizes) > 4 and min(scorer.model.sizes) <= 4


def test_a_row_that_is_cut_says_so_and_one_without_an_answer_left_has_no_score(tmp_path):
    long = [{"role": "user", "content": "word " * 200}, {"role": "assistant", "content": "yes"}]
    half = [{"role": "user", "content": "Go on"}, {"role": "assistant", "content": "word " * 300}]
    scorer = Scorer(job(tmp_path, 64), [*ROWS, ("long", long), ("half", half)], lambda *args, **fields: None)
    found = {one["id"]: one for one in scorer.scores()}
    assert found["long"]["perplexity"] is None and "max_length" in found["long"]["reason"]
    assert found["half"]["truncated"] and found["half"]["perplexity"] > 0


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("", "has no rows"),
        ('{"id": "a"}\n', "line 1"),
        ('{"id": "a", "messages": []}\n', "line 1"),
        ("[1]\n", "line 1"),
        ('{"id": "a", "messages": [{"role": "assistant", "content": "x"}]}\n', "line 1"),
    ],
)
def test_rows_that_cannot_be_read_are_named(tmp_path, lines, words):
    (tmp_path / "rows.jsonl").write_text(lines)
    with pytest.raises(Failure, match=words):
        read_rows(tmp_path / "rows.jsonl")


def test_the_recipe_as_a_process(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"id": id, "messages": said}) + "\n" for id, said in ROWS), "utf-8")
    (tmp_path / "job.json").write_text(json.dumps({"rows": str(rows), "base_model": {"kind": "tiny"}}))
    done = run(tmp_path / "job.json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    scored = [one for event in events if event["event"] == "scores" for one in event["scores"]]
    assert {one["id"] for one in scored} == {id for id, _ in ROWS}
    assert events[-1]["event"] == "done" and events[-1]["scored"] == len(ROWS)


@pytest.mark.parametrize(
    ("content", "words"),
    [({"rows": "relative"}, "absolute path"), ({"rows": "/x", "nope": 1}, "Unknown field 'nope'"), ([], "an object")],
)
def test_a_bad_job_is_refused_in_words(tmp_path, content, words):
    made = content if isinstance(content, list) else {"base_model": {"kind": "tiny"}, **content}
    (tmp_path / "job.json").write_text(json.dumps(made))
    with pytest.raises(Failure, match=words):
        read_score_job(tmp_path / "job.json")


def run(path: Path) -> subprocess.CompletedProcess:
    root = Path(__file__).parent.parent.parent
    argv = [sys.executable, "-m", "workers.recipes.score", str(path)]
    return subprocess.run(argv, cwd=root, capture_output=True, text=True, timeout=PROCESS_SECONDS)
