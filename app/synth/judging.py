"""Judging a row: by rules, which cost nothing, and by a judge, in stages.

What a cheap stage turns away is never paid for at a dear one: rules first, then the question, then the answer
(staged judging as in InstructLab's pipeline; the rubric's aspects after UltraFeedback, Cui et al. 2023, section 2.3).
The judge may be another model than the teacher: its prompts say `by="judge"`.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, Field, StrictBool, StrictStr, create_model

from app.synth.filters import check_row
from app.synth.options import Judging, MethodOptions
from app.synth.prompting import ONE_TO_FIVE, TEXT, YES_NO, object_schema, prompt_for
from app.synth.prompts import language_name
from app.synth.replies import read_object
from app.synth.scores import rule_scores
from app.synth.text import normalise
from app.synth.types import Ask, Batch, Candidate, Rejection

Score = Annotated[int, Field(ge=1, le=5)]
LONGEST_TOPIC = 60
# Beside the aspects, and in their place.
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
    clarity: Score
    answerable: StrictBool
    harmless: StrictBool
    difficulty: Score
    topic: StrictStr = ""


class Comparison(BaseModel):
    better: Annotated[str, Field(pattern="^(A|B|tie)$")]


def gate(row: Candidate, batch: Batch) -> Candidate:
    """Every row with its answer comes through here: the rules on all of its fields, then the rule scores.

    It is turned away by a rule that it breaks, or when a score is under the least one that the options ask for.
    """
    options: MethodOptions = batch.options
    row = replace(row, rejection=row.rejection or check_row(row, options.rules_for(batch.language)))
    return apply_rule_scores(row, batch)


def apply_rule_scores(row: Candidate, batch: Batch) -> Candidate:
    """The row with its rule scores; turned away when one is under the least that the options ask for."""
    computed = rule_scores(row, batch.language)
    row = replace(row, scores={**row.scores, **{f"rule.{name}": value for name, value in computed.items()}})
    for name, minimum in batch.options.minimum_scores.items():
        if row.rejection is None and computed[name] < minimum:
            row = row.reject(f"low_{name}", computed[name], minimum)
    return row


def rule_mean(row: Candidate, language: str) -> float:
    """The mean of all rule scores, 0 to 1."""
    found = rule_scores(row, language)
    return sum(found.values()) / len(found)


async def judge_question(batch: Batch, draft: Candidate, place: str, ask: Ask) -> Candidate:
    """Clarity, difficulty and topic of an instruction; turned away when unclear, unanswerable or harmful."""
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
        f"judge-question-{place}",
        {"instruction": _whole(draft), "language": language_name(batch.language)},
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
    draft = _tagged(draft, verdict.topic, verdict.difficulty)
    draft = replace(draft, scores={**draft.scores, "judge.question_clarity": float(verdict.clarity)})
    if not verdict.harmless:
        return draft.reject("harmful_question")
    if not verdict.answerable:
        return draft.reject("unanswerable_question")
    least = batch.options.judging.question_minimum
    return draft.reject("unclear_question", verdict.clarity, least) if verdict.clarity < least else draft


async def judge_answer(batch: Batch, row: Candidate, place: str, ask: Ask) -> Candidate:
    """The row with its aspect scores and their mean; turned away when they are too low."""
    judging = batch.options.judging
    minimums = judging.minimums
    prompt = prompt_for(
        batch,
        "judge_answer",
        f"judge-answer-{place}",
        {
            "instruction": row.instruction,
            "input": row.input,
            "output": _answer(row),
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
    given = {name: float(getattr(verdict, name)) for name in minimums}
    overall = sum(given.values()) / len(given)
    scores = {f"judge.{name}": value for name, value in given.items()} | {"judge.overall": round(overall, 4)}
    row = _tagged(row, verdict.topic, verdict.difficulty)
    row = replace(row, scores=row.scores | scores, tags=row.tags | {"rationale": verdict.rationale[:1000]})
    worst = min(given, key=lambda name: given[name] - minimums[name])
    if given[worst] < minimums[worst]:
        return row.reject(f"low_{worst}", given[worst], minimums[worst])
    if overall < judging.answer_minimum:
        return row.reject("low_judge_score", round(overall, 4), judging.answer_minimum)
    return row


async def finish(batch: Batch, row: Candidate, place: str, ask: Ask) -> Candidate:
    """The last steps of every row that has its answer: rule scores, then the judge where it was asked for."""
    row = gate(row, batch)
    if row.rejection is None and batch.options.judging.answer:
        return await judge_answer(batch, row, place, ask)
    return row


async def compare(batch: Batch, one: Candidate, two: Candidate, place: str, ask: Ask) -> tuple[int, Candidate]:
    """1 when `one` has the better answer, -1 when `two` has, 0 when the judge is not of one mind.

    Asked twice with the places exchanged, since judges favour a place (Zheng et al. 2023, section 3.3). The calls
    are added to the history of `one`, which is returned.
    """
    wins = []
    for order, (first, second) in enumerate(((one, two), (two, one))):
        prompt = prompt_for(
            batch,
            "judge_pair",
            f"judge-pair-{place}-{order}",
            {"instruction": _whole(one), "first": _answer(first), "second": _answer(second)},
            object_schema("comparison", {"rationale": TEXT, "better": {"type": "string", "enum": ["A", "B", "tie"]}}),
            temperature=0.0,
            max_tokens=batch.options.judging.max_tokens,
            by="judge",
        )
        reply = await ask(prompt)
        one, found = one.after(prompt, reply), read_object(reply, Comparison)
        better = "tie" if isinstance(found, Rejection) else found.better
        wins.append({"A": 1, "B": -1, "tie": 0}[better] * (1 if order == 0 else -1))
    return (wins[0] if wins[0] == wins[1] else 0), one


def rubric_text(judging: Judging, language: str) -> str:
    """The caller's criteria, as the prompt shows them in its own language; nothing without any."""
    if not judging.rubric:
        return ""
    beside, instead = _RUBRIC.get(language.split("-")[0].lower(), _RUBRIC["en"])
    criteria = "\n".join(f"{one.name}: {one.description}" for one in judging.rubric)
    return f"{beside if judging.aspects else instead}\n{criteria}\n\n"


def _verdict_model(names: Iterable[str]) -> type[BaseModel]:
    fields = {name: (Score, ...) for name in names}
    return create_model("Verdict", rationale=(StrictStr, ""), difficulty=(Score, 3), topic=(StrictStr, ""), **fields)


def _tagged(row: Candidate, topic: str, difficulty: int) -> Candidate:
    tags = dict(row.tags)
    if normalise(topic):
        tags.setdefault("topic", normalise(topic)[:LONGEST_TOPIC])
    return replace(row, tags=tags, scores={**row.scores, "judge.difficulty": float(difficulty)})


def _whole(row: Candidate) -> str:
    return f"{row.instruction}\n\n{row.input}" if row.input else row.instruction


def _answer(row: Candidate) -> str:
    return "\n".join(f"[{turn.role}] {turn.content}" for turn in row.messages) if row.messages else row.output
