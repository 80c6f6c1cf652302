"""The quality report: the checklist in numbers, for good rows, bad rows and none."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from app.synth.quality.report import distinct, leading_verb, quality_report, vendi_score

EYE = np.eye(6, dtype=np.float32)


def row(instruction="Name a river", scores=None, tags=None):
    return SimpleNamespace(instruction=instruction, input="", output="The Rhine.", scores=scores or {}, tags=tags or {})


def test_the_checklist_counts_rows_that_pass_all_they_were_asked():
    rows = [
        row(scores={"judge.instruction_following": 5, "rule.relevance": 0.9}),
        row(scores={"judge.instruction_following": 5, "rule.relevance": 0.1}),
        row(scores={"judge.instruction_following": 2}),
        row(),
    ]
    answers = {entry["question"]: entry for entry in quality_report(rows)["checklist"]}
    follows = answers["output_follows_instruction"]
    assert (follows["rows"], follows["good"], follows["share_good"]) == (3, 1, 0.3333)
    assert follows["answered_by"] == ["judge.instruction_following", "rule.relevance"]
    assert answers["no_harm"]["share_good"] is None


def test_difficulty_is_spread_or_not():
    even = quality_report([row(scores={"judge.difficulty": grade}) for grade in (1, 2, 3, 4, 5)])["difficulty"]
    assert (even["mean"], even["evenness"]) == (3.0, 1.0)
    same = quality_report([row(scores={"judge.difficulty": 2})] * 3)["difficulty"]
    assert (same["evenness"], same["counts"]["2"]) == (0.0, 3)


def test_diversity_is_that_of_instructions_topics_and_embeddings():
    rows = [
        row(f"{verb} {n}", tags={"topic": topic}) for n, (verb, topic) in enumerate([("Name", "a"), ("Write", "b")] * 3)
    ]
    diversity = quality_report(rows, EYE, EYE[:3])["diversity"]
    assert diversity["topics"]["different"] == 2 and diversity["topics"]["effective"] == 2
    assert diversity["verbs"]["counts"] == {"name": 3, "write": 3}
    assert diversity["similarity"]["mean"] == 0 and diversity["similarity"]["pairs"] == 15
    assert diversity["vendi_score"] == pytest.approx(6)
    assert diversity["coverage"] == {"seeds": 3, "share_within_half": 1.0, "mean_nearest": 1.0}


def test_the_same_row_again_and_again_counts_once():
    assert vendi_score(np.repeat(EYE[:1], 5, axis=0)) == pytest.approx(1)
    assert distinct(["a b a b"], 1) == 0.5
    assert distinct([], 2) == 0


@pytest.mark.parametrize("rows", [[], [row(instruction="", scores={})]])
def test_little_or_nothing_is_no_fault(rows):
    report = quality_report(rows, None, None)
    assert json.loads(json.dumps(report, allow_nan=False))["rows"] == len(rows)


def test_a_histogram_has_one_edge_more_than_bars_and_loses_no_row():
    scores = quality_report([row(scores={"judge.overall": value, "local.ifd": value}) for value in (1, 3, 5)])["scores"]
    for entry in scores.values():
        assert len(entry["histogram"]["edges"]) == len(entry["histogram"]["counts"]) + 1
        assert sum(entry["histogram"]["counts"]) == entry["rows"] == 3


@pytest.mark.parametrize(
    ("instruction", "verb"),
    [
        ("Write a poem.", "write"),
        ("Please explain tides.", "explain"),
        ("Could you please list rivers?", "list"),
        ("바다를 설명해 주세요.", "설명"),
        ("다음 글을 요약하세요. 세 줄이면 됩니다.", "요약하"),
        ("", ""),
        ("42", ""),
    ],
)
def test_the_leading_verb(instruction, verb):
    assert leading_verb(instruction) == verb
