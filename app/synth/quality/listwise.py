"""One judgement of several answers to the same instruction: all of them are scored in one call.

UltraFeedback (Cui et al. 2023, section 2.3) has one call for all answers of an instruction as well, in a random order.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from pydantic import BaseModel, Field

from app.synth.prompting.prompts import language_name
from app.synth.prompting.replies import read_items
from app.synth.prompting.requests import TEXT, item_schema, numbers_up_to, object_schema, prompt_for
from app.synth.quality.judging import answer_text, question_text
from app.synth.quality.options import ASPECTS, Judging
from app.synth.types import Ask, Batch, Candidate, Prompt

# Ten steps and not five: the answers of one teacher lie close to each other, and an order of them is wanted.
MAX_SCORE = 10
_CRITERIA = {
    "en": ("Weigh these criteria as well:", "Judge by these criteria alone:"),
    "ko": ("다음 기준도 함께 따지세요.", "다음 기준만으로 판단하세요."),
}


class NumberedScore(BaseModel):
    """The score of one answer, which the prompt shows under this number."""

    number: int
    score: int = Field(ge=1, le=MAX_SCORE)


async def judge_listwise(batch: Batch, rows: Sequence[Candidate], position: str, ask: Ask) -> list[Candidate]:
    """Score several answers to one instruction in one call.

    Args:
        batch: gives the language, the seed and the options.
        rows: rows with the same instruction and input, and different answers.
        position: names the call inside the batch.
        ask: calls the judge.

    Returns:
        The rows in the same order, each with `judge.overall` from 1 to 5. A score below the options' minimum rejects
        a row as `low_judge_score`, a missing one as `unjudged`.
    """
    # Judges favour a position (Zheng et al. 2023, section 3.3): the order in the prompt says nothing about the rows.
    order = random.Random(f"{batch.seed}/{position}/order").sample(range(len(rows)), len(rows))
    prompt = _prompt(batch, [rows[n] for n in order], position)
    reply = await ask(prompt)
    items, faults = read_items(reply, "scores", NumberedScore)
    score_by_number: dict[int, int] = {}
    for item in items:
        # The first one counts: a judge that repeats a number has lost count.
        score_by_number.setdefault(item.number, item.score)
    unjudged = faults[0].reason if faults else "no score for this answer"
    number_by_row = {n: number for number, n in enumerate(order, 1)}
    return [
        _with_score(batch, row.after(prompt, reply), score_by_number.get(number_by_row[n]), unjudged)
        for n, row in enumerate(rows)
    ]


def _with_score(batch: Batch, row: Candidate, score: int | None, unjudged: str) -> Candidate:
    if score is None:
        return row.reject("unjudged", unjudged)
    # On the scale of the rubric, from 1 to 5, so that the same minimum and the same selections apply.
    overall = round(1 + 4 * (score - 1) / (MAX_SCORE - 1), 4)
    row = replace(row, scores={**row.scores, "judge.overall": overall})
    minimum = batch.options.judging.answer_minimum
    return row.reject("low_judge_score", overall, minimum) if overall < minimum else row


def _prompt(batch: Batch, shown_rows: Sequence[Candidate], position: str) -> Prompt:
    judging = batch.options.judging
    score = item_schema(
        {
            "number": numbers_up_to(len(shown_rows)),
            "score": {"type": "integer", "minimum": 1, "maximum": MAX_SCORE},
        }
    )
    scores = {"type": "array", "items": score, "minItems": 1, "maxItems": len(shown_rows)}
    return prompt_for(
        batch,
        "judge_list",
        f"judge-list-{position}",
        {
            "rubric": _criteria_text(judging, batch.language),
            "instruction": question_text(shown_rows[0]),
            "answers": "\n\n".join(
                f"<answer_{number}>{answer_text(row)}</answer_{number}>" for number, row in enumerate(shown_rows, 1)
            ),
            "count": len(shown_rows),
            "language": language_name(batch.language),
        },
        object_schema("list_verdict", {"rationale": TEXT, "scores": scores}),
        temperature=0.0,
        max_tokens=judging.max_tokens,
        by="judge",
        operation=shown_rows[0].operation,
        texts_digest=judging.rubric_digest(),
    )


def _criteria_text(judging: Judging, language: str) -> str:
    """Return the caller's criteria and choice of aspects, introduced in the language of the prompt."""
    has_all_aspects = set(judging.aspects) == set(ASPECTS)
    lines = [f"{criterion.name}: {criterion.description}" for criterion in judging.rubric]
    if not has_all_aspects:
        lines = [*judging.aspects, *lines]
    if not lines:
        return ""
    beside_aspects, instead_of_aspects = _CRITERIA.get(language.split("-")[0].lower(), _CRITERIA["en"])
    return "\n".join([beside_aspects if has_all_aspects else instead_of_aspects, *lines]) + "\n\n"
