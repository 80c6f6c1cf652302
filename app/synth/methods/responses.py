"""Answers to existing instructions: one each, or the best of several by a judge.

By default several answers come in one reply, and one judgement scores them all: two calls for each instruction.

Best of n with a threshold is rejection sampling (RFT: Yuan et al. 2023, section 3.3). A share of the answers can have
a chain of thought; FLAN mixed about one such answer with nine plain ones (Chung et al. 2022, section 2.1).
"""

import random
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from app.synth.methods.answering import answer, answer_together
from app.synth.methods.method import Method
from app.synth.methods.parents import ParentFilter
from app.synth.prompting.chains import (
    gather_all,
    gather_until_budget,
    reject_all_on_failure,
    reject_on_failure,
    reject_once_on_failure,
)
from app.synth.quality.filters import PRESETS
from app.synth.quality.judging import apply_rules_and_scores, compare, judge_answer, judge_question
from app.synth.quality.listwise import judge_listwise
from app.synth.quality.options import MethodOptions
from app.synth.quality.rules import Rule
from app.synth.types import Ask, Batch, Candidate, Pair, Parent, Prefilter, Proposal


class Options(MethodOptions):
    """What a caller may set."""

    prompt_names: ClassVar[tuple[str, ...]] = (
        "answer",
        "answer_steps",
        "answers",
        "answers_steps",
        "judge_list",
        "judge_pair",
    )

    parents: ParentFilter = Field(
        default=ParentFilter(answered=False), description="The records to answer; each is answered once."
    )
    answers: int = Field(default=1, ge=1, le=16, description="Answers to each instruction; the best one is kept.")
    answer_calls: Literal["together", "one_each"] = Field(
        default="together", description="Several answers in one reply, or each in a call of its own."
    )
    choose_by: Literal["listwise", "score", "comparison"] = Field(
        default="listwise",
        description="One judgement that scores all answers, a judgement of each on the rubric, or a knock-out of "
        "comparisons asked in both orders.",
    )
    steps_share: float = Field(default=0.0, ge=0, le=1, description="Share worked out step by step; FLAN's is 0.1.")
    temperature: float | None = Field(default=None, ge=0, le=2, description="0.7, or 1.0 for several answers.")
    answer_tokens: int = Field(default=2048, ge=64, le=8192, description="Most tokens of an answer.")

    def unsent_prompts(self) -> dict[str, str]:
        """Return the prompts of a single answer where several come in one reply."""
        if self.answers == 1 or self.answer_calls == "one_each":
            return {}
        return {"answer": "answers", "answer_steps": "answers_steps"}

    def rules_for(self, language: str) -> tuple[Rule, ...]:
        """Return no rules by default, since the instructions are accepted records."""
        return PRESETS["none"] if self.rules is None else super().rules_for(language)

    @property
    def effective_temperature(self) -> float:
        """The temperature of an answer. Several answers need variety, so theirs is higher by default."""
        if self.temperature is not None:
            return self.temperature
        return 0.7 if self.answers == 1 else 1.0


async def propose(batch: Batch, ask: Ask, prefilter: Prefilter) -> Proposal:
    """Write the answers to each parent of the batch, of which at most one is accepted."""
    rows = await gather_until_budget(
        reject_once_on_failure(_draft(parent), _answers(batch, parent, n, ask))
        for n, parent in enumerate(batch.parents)
    )
    return Proposal(tuple(row for answers in rows for row in answers))


def _draft(parent: Parent) -> Candidate:
    return Candidate(parent.instruction, parent.input, parents=(parent.id,), scope="row")


async def _answers(batch: Batch, parent: Parent, position: int, ask: Ask) -> list[Candidate]:
    options: Options = batch.options
    # Drawn once for all answers of an instruction, so that comparable answers compete.
    chain_of_thought = random.Random(f"{batch.seed}/{position}").random() < options.steps_share
    draft = replace(_draft(parent), operation="steps" if chain_of_thought else None)
    if options.judging.question:
        draft = await judge_question(batch, draft, str(position), ask)
        if draft.rejection is not None:
            return [draft]
    if options.answers > 1 and options.answer_calls == "together":
        rows = await _write_answers_together(batch, draft, position, chain_of_thought, ask)
    else:
        rows = await gather_all(
            reject_on_failure(draft, _write_answer(batch, draft, f"{position}-{n}", n, chain_of_thought, ask))
            for n in range(options.answers)
        )
    # A single answer has been judged by `_write_answer`, and has no rival.
    return rows if options.answers == 1 else await _select_best(batch, _distinct(rows), position, ask)


async def _write_answers_together(
    batch: Batch, draft: Candidate, position: int, chain_of_thought: bool, ask: Ask
) -> list[Candidate]:
    options: Options = batch.options
    rows = await answer_together(
        batch,
        draft,
        str(position),
        options.answers,
        ask,
        temperature=options.effective_temperature,
        max_tokens=options.answer_tokens,
        chain_of_thought=chain_of_thought,
    )
    # Copies are rejected first: no judgement is paid for them.
    return await gather_all(
        reject_on_failure(row, _check_answer(batch, row, f"{position}-{n}", ask))
        for n, row in enumerate(_distinct(rows))
    )


async def _write_answer(
    batch: Batch, draft: Candidate, position: str, number: int, chain_of_thought: bool, ask: Ask
) -> Candidate:
    options: Options = batch.options
    row = await answer(
        batch,
        replace(draft, name=f"answer-{position}"),
        position,
        ask,
        temperature=options.effective_temperature,
        max_tokens=options.answer_tokens,
        chain_of_thought=chain_of_thought,
        seed=number,
    )
    return await _check_answer(batch, row, position, ask)


async def _check_answer(batch: Batch, row: Candidate, position: str, ask: Ask) -> Candidate:
    options: Options = batch.options
    # Rule scores cost nothing, so they come before the judge.
    row = apply_rules_and_scores(row, batch) if row.rejection is None else row
    if options.answers == 1 or options.choose_by == "comparison":
        judged = options.judging.answer
    else:
        judged = options.choose_by == "score"
    return await judge_answer(batch, row, position, ask) if judged and row.rejection is None else row


def _distinct(rows: list[Candidate]) -> list[Candidate]:
    """Reject repeated answers, so that no call is paid to compare an answer with its copy."""
    earlier_outputs: set[str] = set()
    checked_rows = []
    for row in rows:
        is_copy = row.rejection is None and row.output in earlier_outputs
        earlier_outputs.add(row.output)
        checked_rows.append(row.reject("repeated_answer") if is_copy else row)
    return checked_rows


async def _select_best(batch: Batch, rows: list[Candidate], position: int, ask: Ask) -> list[Candidate]:
    """Keep the best answer, with the worst one as a preference pair, and reject the others."""
    remaining = [n for n, row in enumerate(rows) if row.rejection is None]
    if not remaining:
        return rows
    options: Options = batch.options
    if options.choose_by == "comparison":
        return await _select_by_comparison(batch, rows, remaining, position, ask)
    if options.choose_by == "score":
        return _select_by_score(rows)
    unjudged = [rows[n] for n in remaining]
    judged = await reject_all_on_failure(unjudged, judge_listwise(batch, unjudged, str(position), ask))
    rows = _select_by_score([row for row in rows if row.rejection is not None] + judged)
    best = next((n for n, row in enumerate(rows) if row.rejection is None), None)
    if options.judging.answer and best is not None:
        # The rubric of this stage is asked of the best answer alone: the others are not accepted in any case.
        rows[best] = await reject_on_failure(rows[best], judge_answer(batch, rows[best], str(position), ask))
    return rows


def _select_by_score(rows: list[Candidate]) -> list[Candidate]:
    remaining = [n for n, row in enumerate(rows) if row.rejection is None]
    if not remaining:
        return rows
    # The earlier answer wins a tie, so that a repeated batch selects the same one.
    best = max(remaining, key=lambda n: (_overall_score(rows[n]), -n))
    rows = [
        row.reject("not_selected", _overall_score(row), _overall_score(rows[best]))
        if n in remaining and n != best
        else row
        for n, row in enumerate(rows)
    ]
    judged = [n for n, row in enumerate(rows) if "judge.overall" in row.scores]
    worst = min(judged, key=lambda n: (_overall_score(rows[n]), n))
    # The scale from 1 to 5 is 4 wide; a margin is a share of it.
    margin = round((_overall_score(rows[best]) - _overall_score(rows[worst])) / 4, 4)
    if margin > 0:
        rows[best] = replace(rows[best], pairs=(Pair("best_worst", rows[best].output, rows[worst].output, margin),))
    return rows


async def _select_by_comparison(
    batch: Batch, rows: list[Candidate], remaining: list[int], position: int, ask: Ask
) -> list[Candidate]:
    """Compare each answer with the best one so far; a tie keeps the earlier answer."""
    # A knock-out takes n - 1 comparisons, where all pairs would take n (n - 1) / 2, each of two calls.
    best, pairs = remaining[0], ()
    for n in remaining[1:]:
        verdict, compared = await compare(batch, rows[n], rows[best], f"{position}-{n}", ask)
        rows[n] = compared
        winner, loser = (n, best) if verdict > 0 else (best, n)
        if verdict != 0:
            pairs = (Pair("best_worst", rows[winner].output, rows[loser].output, 1.0),)
        rows[loser] = rows[loser].reject("not_selected")
        best = winner
    # A pair of two losers says nothing about the answer of the winner.
    pairs = tuple(pair for pair in pairs if pair.chosen == rows[best].output)
    rows[best] = replace(rows[best], pairs=pairs)
    return rows


def _overall_score(row: Candidate) -> float:
    return row.scores.get("judge.overall", 0.0)


def _plain_and_by_steps(options: Options) -> list[Options]:
    shares = [share for share, used in ((0.0, options.steps_share < 1), (1.0, options.steps_share > 0)) if used]
    return [options.model_copy(update={"steps_share": share}) for share in shares]


METHOD = Method(
    name="responses",
    summary="Answers to instructions that have none, or the best of several answers.",
    options=Options,
    make=propose,
    draws_from=lambda options: "records",
    batch_size=lambda options: 8,
    candidates=lambda options: options.answers,
    min_steps=lambda options: 1 if options.answers == 1 else 2,
    answers_once=True,
    variants=_plain_and_by_steps,
)
