"""Questions and answers grounded in uploaded text, each with the quotation that supports its answer.

As in InstructLab's knowledge pipeline (LAB: Sudalairaj et al. 2024) a judge rates the faithfulness of the pair to its
passage. The quotation must also occur in the passage, so that an invented source is rejected without a call.
"""

import re
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import BaseModel, Field, StrictStr
from rapidfuzz import fuzz

from app.synth.methods.faithfulness import judge_faithfulness, judge_faithfulness_together
from app.synth.methods.method import Method
from app.synth.prompting.chains import (
    gather_until_budget,
    keep_rejected,
    reject_all_on_failure,
    reject_on_failure,
    reject_once_on_failure,
)
from app.synth.prompting.prompts import language_name
from app.synth.prompting.replies import read_items
from app.synth.prompting.requests import TEXT, item_schema, list_schema, prompt_for
from app.synth.quality.filters import PRESETS, check_instance, check_instruction, check_row
from app.synth.quality.judging import finish
from app.synth.quality.options import MethodOptions
from app.synth.quality.postprocess import limit_to_requested
from app.synth.quality.rules import Rule
from app.synth.text import clean, normalise
from app.synth.types import Ask, Batch, Candidate, Prefilter, Proposal, Source

# A teacher may quote with another comma or ending. Below this percentage it is another sentence.
MIN_QUOTE_SIMILARITY = 90.0
MIN_QUOTE_LENGTH = 8


class Options(MethodOptions):
    """What a caller may set."""

    judges_questions: ClassVar[bool] = False
    prompt_names: ClassVar[tuple[str, ...]] = (
        "document_questions",
        "judge_faithfulness",
        "judge_faithfulness_list",
    )

    document_ids: tuple[str, ...] = Field(default=(), max_length=1000, description="Only these; all unless given.")
    questions: int = Field(default=3, ge=1, le=10, description="Questions asked for on each passage.")
    include_passage: bool = Field(default=True, description="Give the passage as the row's input.")
    judge_faithfulness: bool = Field(default=True, description="Ask a judge whether the passage supports the answer.")
    faithfulness_calls: Literal["together", "one_each"] = Field(
        default="together", description="One judgement of all answers on a passage, or one of each."
    )
    faithfulness_minimum: int = Field(default=4, ge=1, le=5, description="Least score of the judge, 1 to 5.")
    temperature: float = Field(default=0.7, ge=0, le=2, description="Of the questions.")
    question_tokens: int = Field(default=2048, ge=128, le=8192, description="Most tokens of a call for questions.")

    def unsent_prompts(self) -> dict[str, str]:
        """Return the prompt of the other setting of `faithfulness_calls`."""
        if self.faithfulness_calls == "together":
            return {"judge_faithfulness": "judge_faithfulness_list"}
        return {"judge_faithfulness_list": "judge_faithfulness"}

    def rules_for(self, language: str) -> tuple[Rule, ...]:
        """Return rules of form by default, since a question on a document may well name a map or a file."""
        return PRESETS["form"] if self.rules is None else super().rules_for(language)


class QuestionItem(BaseModel):
    """One question of a reply, with the sentence of the passage that supports its answer."""

    question: StrictStr
    answer: StrictStr
    quote: StrictStr


async def propose(batch: Batch, ask: Ask, prefilter: Prefilter) -> Proposal:
    """Make questions and answers on each passage of the batch."""
    rows = await gather_until_budget(
        reject_once_on_failure(_draft(source), _passage(batch, source, n, ask, prefilter))
        for n, source in enumerate(batch.sources)
    )
    return Proposal(tuple(row for passage_rows in rows for row in passage_rows))


def _draft(source: Source) -> Candidate:
    return Candidate("", parents=(source.id,), tags={"document": source.fields["title"]})


async def _passage(batch: Batch, source: Source, index: int, ask: Ask, prefilter: Prefilter) -> list[Candidate]:
    options: Options = batch.options
    prompt = prompt_for(
        batch,
        "document_questions",
        f"questions-{index}",
        {
            "title": source.fields["title"],
            "passage": source.fields["text"],
            "count": options.questions,
            "language": language_name(batch.language),
        },
        list_schema("questions", item_schema({"question": TEXT, "answer": TEXT, "quote": TEXT}), options.questions),
        step="questions",
        temperature=options.temperature,
        max_tokens=options.question_tokens,
        seed=index,
    )
    reply = await ask(prompt)
    draft = _draft(source).after(prompt, reply)
    items, faults = limit_to_requested(*read_items(reply, "questions", QuestionItem), options.questions)
    rows = [replace(draft, rejection=fault) for fault in faults]
    # A teacher sometimes asks the same question twice about one passage.
    earlier_questions: set[str] = set()
    drafts = []
    for item in items:
        row = _row(batch, draft, source, item)
        if row.rejection is None and normalise(row.instruction).casefold() in earlier_questions:
            row = row.reject("repeated_in_reply")
        earlier_questions.add(normalise(row.instruction).casefold())
        drafts.append(row)
    if options.judge_faithfulness and options.faithfulness_calls == "together":
        return rows + await _judge_together(batch, drafts, source, index, ask, prefilter)
    return rows + await gather_until_budget(
        reject_on_failure(row, _check_and_judge(batch, row, source, f"{index}-{n}", ask, prefilter))
        for n, row in enumerate(drafts)
    )


async def _judge_together(
    batch: Batch, drafts: list[Candidate], source: Source, index: int, ask: Ask, prefilter: Prefilter
) -> list[Candidate]:
    """Check the novelty of all rows first, so that the judge is shown new ones alone."""
    checked = await gather_until_budget(_check_novelty(row, prefilter) for row in drafts)
    rejected = [row for row in checked if row.rejection is not None]
    new_rows = [row for row in checked if row.rejection is None]
    if not new_rows:
        return rejected
    return await keep_rejected(rejected, _judge_and_finish(batch, new_rows, source, index, ask))


async def _judge_and_finish(
    batch: Batch, rows: list[Candidate], source: Source, index: int, ask: Ask
) -> list[Candidate]:
    judging = judge_faithfulness_together(batch, rows, source.fields["text"], str(index), ask)
    judged = await reject_all_on_failure(rows, judging)
    rejected = [row for row in judged if row.rejection is not None]
    return rejected + await gather_until_budget(
        reject_on_failure(row, finish(batch, row, f"{index}-{n}", ask))
        for n, row in enumerate(judged)
        if row.rejection is None
    )


async def _check_novelty(row: Candidate, prefilter: Prefilter) -> Candidate:
    return row if row.rejection is not None else replace(row, rejection=await prefilter(row))


def _row(batch: Batch, draft: Candidate, source: Source, item: QuestionItem) -> Candidate:
    text = source.fields["text"]
    passage = clean(text) if batch.options.include_passage else ""
    row = replace(draft, instruction=clean(item.question), input=passage, output=clean(item.answer))
    rules = batch.options.rules_for(batch.language)
    fault = check_instruction(row.instruction, rules) or check_instance(row.input, row.output) or check_row(row, rules)
    if fault is not None:
        return replace(row, rejection=fault)
    # The quotation is sought in the text as stored, so that its offsets hold in the uploaded document.
    span = find_quote(text, item.quote)
    if span is None:
        return row.reject("quote_not_found", item.quote[:200], MIN_QUOTE_SIMILARITY / 100)
    start, end = span
    # The row refers to the whole document, of which this passage begins at `start`.
    offset = source.fields["start"]
    location = {"source": source.id, "document": source.fields["document"], "title": source.fields["title"]}
    return replace(row, source=location | {"start": offset + start, "end": offset + end, "quote": text[start:end]})


async def _check_and_judge(
    batch: Batch, row: Candidate, source: Source, position: str, ask: Ask, prefilter: Prefilter
) -> Candidate:
    """Check novelty, then faithfulness, then the common checks: the cheaper ones come first."""
    row = await _check_novelty(row, prefilter)
    if row.rejection is None and batch.options.judge_faithfulness:
        row = await judge_faithfulness(batch, row, source.fields["text"], position, ask)
    return row if row.rejection is not None else await finish(batch, row, position, ask)


def find_quote(text: str, quote: str) -> tuple[int, int] | None:
    """Find a quotation in a text, with any white space, or else the most similar span if at least 90% similar.

    Args:
        text: the passage.
        quote: the quotation, with or without quotation marks.

    Returns:
        (start, end) in characters of `text`; None when the text does not contain the quotation.
    """
    words = quote.strip().strip("\"'“”‘’…").split()
    if not words:
        return None
    # White space differs between a document and its quotation wherever lines are broken.
    exact = re.search(r"\s+".join(re.escape(word) for word in words), text, re.IGNORECASE)
    if exact:
        return exact.span()
    normalised = " ".join(words)
    if len(normalised) < MIN_QUOTE_LENGTH or len(normalised) > len(text):
        return None
    alignment = fuzz.partial_ratio_alignment(normalised, text, score_cutoff=MIN_QUOTE_SIMILARITY)
    return _widen_to_words(text, alignment.dest_start, alignment.dest_end) if alignment else None


def _widen_to_words(text: str, start: int, end: int) -> tuple[int, int]:
    """Widen the span to whole words, since fuzzy matching may cut a word."""
    # Fuzzy alignment knows no words and may begin in the middle of one.
    while start > 0 and text[start - 1].isalnum() and text[start].isalnum():
        start -= 1
    while end < len(text) and text[end - 1].isalnum() and text[end].isalnum():
        end += 1
    return start, end


METHOD = Method(
    name="documents",
    summary="Questions and answers grounded in uploaded text, with the span they rest on.",
    options=Options,
    make=propose,
    draws_from=lambda options: "passages",
    batch_size=lambda options: 4,
    candidates=lambda options: options.questions,
    min_steps=lambda options: 1 + options.judge_faithfulness,
    sample_values=lambda batch: {"quote": batch.sources[0].fields["text"][:80]},
)
