"""Judgements of faithfulness: whether a passage supports an answer, or each of several answers in one call."""

from collections.abc import Sequence
from dataclasses import replace

from pydantic import BaseModel, StrictBool, StrictStr

from app.synth.prompting.replies import read_items, read_object
from app.synth.prompting.requests import (
    ONE_TO_FIVE,
    TEXT,
    YES_NO,
    item_schema,
    list_schema,
    numbers_up_to,
    object_schema,
    prompt_for,
)
from app.synth.quality.judging import Score
from app.synth.types import Ask, Batch, Candidate, Rejection

_VERDICT = {"rationale": TEXT, "faithful": YES_NO, "score": ONE_TO_FIVE}
# Tokens. A list of verdicts may need as many times the tokens of one, up to the bound of the option.
MAX_TOKENS_TOGETHER = 4096


class Faithfulness(BaseModel):
    """The judge's verdict, `score` 1 to 5."""

    faithful: StrictBool
    score: Score
    rationale: StrictStr = ""


class NumberedFaithfulness(Faithfulness):
    """The verdict on one of several answers, which the prompt shows under this number."""

    number: int


async def judge_faithfulness(batch: Batch, row: Candidate, passage: str, position: str, ask: Ask) -> Candidate:
    """Judge one row.

    Args:
        batch: gives the language and the options.
        row: a row with its question and answer.
        passage: the text that the answer has to rest on.
        position: names the call inside the batch.
        ask: calls the judge.

    Returns:
        The row with `judge.faithfulness`, 1 to 5, rejected as `unfaithful` below the options' minimum, and as
        `unjudged` when the verdict could not be read.
    """
    prompt = prompt_for(
        batch,
        "judge_faithfulness",
        f"faithfulness-{position}",
        {"passage": passage, "instruction": row.instruction, "output": row.output},
        object_schema("faithfulness", _VERDICT),
        temperature=0.0,
        max_tokens=batch.options.judging.max_tokens,
        by="judge",
    )
    reply = await ask(prompt)
    row, verdict = row.after(prompt, reply), read_object(reply, Faithfulness)
    if isinstance(verdict, Rejection):
        return row.reject("unjudged", verdict.reason)
    return _with_verdict(batch, row, verdict)


async def judge_faithfulness_together(
    batch: Batch, rows: Sequence[Candidate], passage: str, position: str, ask: Ask
) -> list[Candidate]:
    """Judge all rows of a passage in one call.

    Args:
        batch: gives the language and the options.
        rows: rows with their questions and answers, all on the passage.
        passage: the text that the answers have to rest on.
        position: names the call inside the batch.
        ask: calls the judge.

    Returns:
        The rows in their order, each with its score as from `judge_faithfulness`. A missing or unreadable verdict
        rejects its row alone as `unjudged`.
    """
    shown_rows = (
        f"<row_{n}>\n<instruction>{row.instruction}</instruction>\n<output>{row.output}</output>\n</row_{n}>"
        for n, row in enumerate(rows, 1)
    )
    prompt = prompt_for(
        batch,
        "judge_faithfulness_list",
        f"faithfulness-{position}",
        {"passage": passage, "rows": "\n".join(shown_rows), "count": len(rows)},
        list_schema("verdicts", item_schema({"number": numbers_up_to(len(rows)), **_VERDICT}), len(rows)),
        step="judge_faithfulness",
        temperature=0.0,
        max_tokens=min(MAX_TOKENS_TOGETHER, batch.options.judging.max_tokens * len(rows)),
        by="judge",
    )
    reply = await ask(prompt)
    verdicts, faults = read_items(reply, "verdicts", NumberedFaithfulness)
    verdict_by_number: dict[int, NumberedFaithfulness] = {}
    for verdict in verdicts:
        # The first one counts: a judge that repeats a number has lost count.
        verdict_by_number.setdefault(verdict.number, verdict)
    missing = faults[0].reason if faults else "no verdict on this row"
    judged_rows = []
    for n, row in enumerate(rows, 1):
        row, verdict = row.after(prompt, reply), verdict_by_number.get(n)
        judged_rows.append(row.reject("unjudged", missing) if verdict is None else _with_verdict(batch, row, verdict))
    return judged_rows


def _with_verdict(batch: Batch, row: Candidate, verdict: Faithfulness) -> Candidate:
    row = replace(row, scores={**row.scores, "judge.faithfulness": float(verdict.score)})
    minimum = batch.options.faithfulness_minimum
    if not verdict.faithful or verdict.score < minimum:
        return row.reject("unfaithful", verdict.score if verdict.faithful else 0, minimum)
    return row
