"""Judging of stored rows, by the same stages, prompts and scores as in a run."""

from dataclasses import replace

from pydantic import Field

from app.synth.quality.judging import apply_rule_scores, judge_answer, judge_question
from app.synth.quality.options import Judging, MethodOptions, MinimumScores
from app.synth.types import Ask, Batch, Candidate


class JudgementOptions(Judging):
    """The stages and thresholds of a run's judge, and minimum rule scores, which cost no call."""

    answer: bool = Field(default=True, description="Judge each row that has an answer on the rubric.")
    question: bool = Field(default=False, description="Judge the instruction first.")
    minimum_scores: MinimumScores = Field(
        default={}, description="Least rule scores (0 to 1); a row below one of them is not paid for."
    )

    def batch(self, language: str) -> Batch:
        """Return a batch with these options, from which the prompts of one row are made in this language."""
        judging = Judging(**self.model_dump(exclude={"minimum_scores"}))
        return Batch(MethodOptions(judging=judging, minimum_scores=self.minimum_scores), language, seed=0)


async def judge_record(options: JudgementOptions, row: Candidate, language: str, position: str, ask: Ask) -> Candidate:
    """Judge a row, and reject it where a run would have rejected it.

    Each stage is one call, and a row that fails at a stage is not paid for at the next. A row without an answer is
    judged as a question alone. An error of `ask` is raised as it is.

    Args:
        options: the stages and thresholds.
        row: a stored row; its earlier rejection is ignored.
        language: the BCP-47 tag of the dataset.
        position: names the calls of this row.
        ask: calls the judge.

    Returns:
        The row with the scores and tags of the verdicts.
    """
    batch = options.batch(language)
    has_answer = bool(row.output.strip() or row.messages)
    row = replace(row, rejection=None)
    if has_answer:
        row = apply_rule_scores(row, batch)
    if row.rejection is None and options.question:
        row = await judge_question(batch, row, position, ask)
    if row.rejection is None and options.answer and has_answer:
        row = await judge_answer(batch, row, position, ask)
    return row
