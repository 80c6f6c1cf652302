"""Judging a row: by rules, which cost nothing, and by a judge, in stages.

A row that a cheap stage rejects is never paid for at a dear one: rules first, then the question, then the answer
(staged judging as in InstructLab's pipeline; the rubric's aspects after UltraFeedback, Cui et al. 2023, section 2.3).
The judge may be another model than the teacher: its prompts say `by="judge"`.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, Field, StrictBool, StrictStr, create_model

from app.synth.prompting.prompts import language_name
from app.synth.prompting.replies import read_object
from app.synth.prompting.requests import ONE_TO_FIVE, TEXT, YES_NO, object_schema, prompt_for
from app.synth.quality.filters import check_row
from app.synth.quality.options import Judging, MethodOptions
from app.synth.quality.scores import rule_scores
from app.synth.text import normalise
from app.synth.types import Ask, Batch, Candidate, Rejection

Score = Annotated[int, Field(ge=1, le=5)]
# Characters of a tag: a topic is a few words, and a teacher that writes a sentence must not fill the statistics.
MAX_TOPIC_LENGTH = 60
# The first text introduces criteria beside the aspects, the second criteria in their place.
_RUBRIC = {
    "en": (
        "Score these as well, each under its name:",
        "Score these in the place of the five aspects, each under its name:",
    ),
    "ko": (
        "다음 항목에도 저마다 그 이름으로 점수를 매기세요.",
        "위의 다섯 항목 대신 다음 항목에 저마다 그 이름으로 점수를 매기세요.",
    ),
}


class QuestionVerdict(BaseModel):
    """The judge's verdict on an instruction: clarity and difficulty 1 to 5."""

    clarity: Score
    answerable: StrictBool
    harmless: StrictBool
    difficulty: Score
    topic: StrictStr = ""


class Comparison(BaseModel):
    """The judge's verdict on two answers, of which it sees the first as A."""

    better: Annotated[str, Field(pattern="^(A|B|tie)$")]


def apply_rules_and_scores(row: Candidate, batch: Batch) -> Candidate:
    """Apply the rules to all fields of a row with its answer, then compute the rule scores.

    The row is rejected by the first rule that it breaks, or when a score is below the options' minimum.
    """
    options: MethodOptions = batch.options
    row = replace(row, rejection=row.rejection or check_row(row, options.rules_for(batch.language)))
    return apply_rule_scores(row, batch)


def apply_rule_scores(row: Candidate, batch: Batch) -> Candidate:
    """Add the rule scores to the row, and reject it when a score is below the minimum in the options."""
    computed = rule_scores(row, batch.language)
    row = replace(row, scores={**row.scores, **{f"rule.{name}": value for name, value in computed.items()}})
    for name, minimum in batch.options.minimum_scores.items():
        if row.rejection is None and computed[name] < minimum:
            row = row.reject(f"low_{name}", computed[name], minimum)
    return row


def rule_mean(row: Candidate, language: str) -> float:
    """Return the mean of all rule scores, 0 to 1."""
    values = rule_scores(row, language)
    return sum(values.values()) / len(values)


async def judge_question(batch: Batch, draft: Candidate, position: str, ask: Ask) -> Candidate:
    """Judge clarity, difficulty and topic of an instruction, and reject one that is unclear, unanswerable or harmful.

    The stage comes before the answer, so that no answer is paid for in vain (as in InstructLab's pipeline).

    Args:
        batch: gives the language and the options.
        draft: a row with its instruction.
        position: names the call inside the batch.
        ask: calls the judge.

    Returns:
        The draft with the scores `judge.question_clarity` and `judge.difficulty`, each 1 to 5, and its topic.
    """
    properties = {
        "clarity": ONE_TO_FIVE,
        "answerable": YES_NO,
        "harmless": YES_NO,
        "difficulty": ONE_TO_FIVE,
        "topic": TEXT,
    }
    prompt = prompt_for(
        batch,
        "judge_question",
        f"judge-question-{position}",
        {"instruction": question_text(draft), "language": language_name(batch.language)},
        object_schema("question_verdict", properties),
        temperature=0.0,
        max_tokens=batch.options.judging.max_tokens,
        by="judge",
        operation=draft.operation,
    )
    reply = await ask(prompt)
    draft, verdict = draft.after(prompt, reply), read_object(reply, QuestionVerdict)
    if isinstance(verdict, Rejection):
        return draft.reject("unjudged", verdict.reason)
    draft = _add_tags(draft, verdict.topic, verdict.difficulty)
    draft = replace(draft, scores={**draft.scores, "judge.question_clarity": float(verdict.clarity)})
    if not verdict.harmless:
        return draft.reject("harmful_question")
    if not verdict.answerable:
        return draft.reject("unanswerable_question")
    min_clarity = batch.options.judging.question_minimum
    return draft.reject("unclear_question", verdict.clarity, min_clarity) if verdict.clarity < min_clarity else draft


async def judge_answer(batch: Batch, row: Candidate, position: str, ask: Ask) -> Candidate:
    """Judge the answer on each aspect (UltraFeedback: Cui et al. 2023, section 2.3), and reject a low score.

    Args:
        batch: gives the language and the options.
        row: a row with its answer.
        position: names the call inside the batch.
        ask: calls the judge.

    Returns:
        The row with the score of each aspect and `judge.overall`, their mean, all 1 to 5. An unreadable verdict
        rejects the row as `unjudged`.
    """
    judging = batch.options.judging
    minimums = judging.minimums
    prompt = prompt_for(
        batch,
        "judge_answer",
        f"judge-answer-{position}",
        {
            "instruction": row.instruction,
            "input": row.input,
            "output": answer_text(row),
            "language": language_name(batch.language),
            "rubric": rubric_text(judging, batch.language),
        },
        object_schema(
            "answer_verdict",
            {"rationale": TEXT, **dict.fromkeys(minimums, ONE_TO_FIVE), "difficulty": ONE_TO_FIVE, "topic": TEXT},
        ),
        temperature=0.0,
        max_tokens=judging.max_tokens,
        by="judge",
        operation=row.operation,
        texts_digest=judging.rubric_digest(),
    )
    reply = await ask(prompt)
    row, verdict = row.after(prompt, reply), read_object(reply, _verdict_model(minimums))
    if isinstance(verdict, Rejection):
        return row.reject("unjudged", verdict.reason)
    aspect_scores = {name: float(getattr(verdict, name)) for name in minimums}
    overall = sum(aspect_scores.values()) / len(aspect_scores)
    scores = {f"judge.{name}": value for name, value in aspect_scores.items()} | {"judge.overall": round(overall, 4)}
    row = _add_tags(row, verdict.topic, verdict.difficulty)
    row = replace(row, scores=row.scores | scores, tags=row.tags | {"rationale": verdict.rationale[:1000]})
    # The aspect that misses its minimum by most names the reason, so that a row has one reason and not several.
    worst = min(aspect_scores, key=lambda name: aspect_scores[name] - minimums[name])
    if aspect_scores[worst] < minimums[worst]:
        return row.reject(f"low_{worst}", aspect_scores[worst], minimums[worst])
    if overall < judging.answer_minimum:
        return row.reject("low_judge_score", round(overall, 4), judging.answer_minimum)
    return row


async def finish(batch: Batch, row: Candidate, position: str, ask: Ask) -> Candidate:
    """Apply the last steps to a row with its answer: rules, rule scores, and the judge where the options ask for it.

    Args:
        batch: gives the language and the options.
        row: a row with its answer.
        position: names the calls of this row inside the batch.
        ask: calls the judge.

    Returns:
        The row with its scores, rejected by the first check that it fails.
    """
    row = apply_rules_and_scores(row, batch)
    if row.rejection is None and batch.options.judging.answer:
        return await judge_answer(batch, row, position, ask)
    return row


async def compare(batch: Batch, first: Candidate, second: Candidate, position: str, ask: Ask) -> tuple[int, Candidate]:
    """Return 1 when `first` has the better answer, -1 when `second` has, 0 when the two verdicts disagree.

    The judge is asked twice with the answers exchanged, since judges favour a position (Zheng et al. 2023,
    section 3.3). The calls are added to the history of `first`, which is returned.
    """
    # Both orders are asked even when the first verdict is clear: the position alone may have decided it.
    wins = []
    for order, (shown_first, shown_second) in enumerate(((first, second), (second, first))):
        prompt = prompt_for(
            batch,
            "judge_pair",
            f"judge-pair-{position}-{order}",
            {
                "instruction": question_text(first),
                "first": answer_text(shown_first),
                "second": answer_text(shown_second),
            },
            object_schema("comparison", {"rationale": TEXT, "better": {"type": "string", "enum": ["A", "B", "tie"]}}),
            temperature=0.0,
            max_tokens=batch.options.judging.max_tokens,
            by="judge",
        )
        reply = await ask(prompt)
        first, comparison = first.after(prompt, reply), read_object(reply, Comparison)
        better = "tie" if isinstance(comparison, Rejection) else comparison.better
        wins.append({"A": 1, "B": -1, "tie": 0}[better] * (1 if order == 0 else -1))
    return (wins[0] if wins[0] == wins[1] else 0), first


def rubric_text(judging: Judging, language: str) -> str:
    """Return the caller's criteria, introduced in the language of the prompt; empty without any."""
    if not judging.rubric:
        return ""
    beside_aspects, instead_of_aspects = _RUBRIC.get(language.split("-")[0].lower(), _RUBRIC["en"])
    criteria = "\n".join(f"{criterion.name}: {criterion.description}" for criterion in judging.rubric)
    return f"{beside_aspects if judging.aspects else instead_of_aspects}\n{criteria}\n\n"


def _verdict_model(names: Iterable[str]) -> type[BaseModel]:
    fields = {name: (Score, ...) for name in names}
    return create_model("Verdict", rationale=(StrictStr, ""), difficulty=(Score, 3), topic=(StrictStr, ""), **fields)


def _add_tags(row: Candidate, topic: str, difficulty: int) -> Candidate:
    # A topic that the prompt demanded stays: the judge's words for it would split one topic into many.
    tags = dict(row.tags)
    if normalise(topic):
        tags.setdefault("topic", normalise(topic)[:MAX_TOPIC_LENGTH])
    return replace(row, tags=tags, scores={**row.scores, "judge.difficulty": float(difficulty)})


def question_text(row: Candidate) -> str:
    """Return the instruction of a row with its input, as a judge sees them."""
    return f"{row.instruction}\n\n{row.input}" if row.input else row.instruction


def answer_text(row: Candidate) -> str:
    """Return the answer of a row as a judge sees it: its output, or the turns of its dialogue."""
    return "\n".join(f"[{turn.role}] {turn.content}" for turn in row.messages) if row.messages else row.output
