"""Answers to an instruction: plain text, or a chain of thought with the reasoning in its own field.

Several answers can come in one reply. A request with `n` choices would do the same for teachers that honour `n`, but a
Prompt and a Reply hold one text.
"""

from dataclasses import replace

from pydantic import BaseModel, StrictStr, model_validator

from app.synth.prompting.prompts import language_name
from app.synth.prompting.replies import read_items, read_object, read_text
from app.synth.prompting.requests import TEXT, item_schema, list_schema, object_schema, prompt_for
from app.synth.quality.filters import check_instance
from app.synth.quality.postprocess import limit_to_requested
from app.synth.text import clean
from app.synth.types import Ask, Batch, Candidate, Rejection


class ChainOfThought(BaseModel):
    """The reply of an answer with its reasoning."""

    reasoning: StrictStr
    output: StrictStr


class PlainAnswer(BaseModel):
    """One of several plain answers in a reply."""

    output: StrictStr

    @model_validator(mode="before")
    @classmethod
    def takes_a_plain_text(cls, value: object) -> object:
        """Take a text, which is the requested form, as well as an object."""
        return {"output": value} if isinstance(value, str) else value


# Tokens. Several answers in one reply may need as many times the tokens of one, up to what teachers write at once.
MAX_TOKENS_TOGETHER = 16384


async def answer(
    batch: Batch,
    draft: Candidate,
    position: str,
    ask: Ask,
    *,
    temperature: float,
    max_tokens: int,
    chain_of_thought: bool = False,
    seed: int = 0,
) -> Candidate:
    """Ask the teacher for an output.

    Args:
        batch: gives language and seed.
        draft: the row without an output.
        position: names the call inside its batch.
        ask: the teacher.
        temperature: of the call.
        max_tokens: of the reply.
        chain_of_thought: ask for the reasoning before the answer (Wei et al. 2022).
        seed: is added to the seed of the batch.

    Returns:
        The row with its output, or with a rejection when the reply has no usable output.
    """
    prompt = prompt_for(
        batch,
        "answer_steps" if chain_of_thought else "answer",
        f"answer-{position}",
        {
            "instruction": draft.instruction,
            "input": f"\n\n<input>{draft.input}</input>" if draft.input else "",
            "language": language_name(batch.language),
        },
        # A plain answer has no schema: code and Markdown would suffer from JSON escapes.
        object_schema("answer", {"reasoning": TEXT, "output": TEXT}) if chain_of_thought else None,
        step="answer",
        temperature=temperature,
        max_tokens=max_tokens,
        operation=draft.operation,
        seed=seed,
    )
    reply = await ask(prompt)
    row = draft.after(prompt, reply)
    parsed = read_object(reply, ChainOfThought) if chain_of_thought else read_text(reply)
    if isinstance(parsed, Rejection):
        return replace(row, rejection=parsed)
    if chain_of_thought:
        row = replace(row, reasoning=clean(parsed.reasoning))
    row = replace(row, output=clean(parsed.output if chain_of_thought else parsed))
    # Form is checked here, so that no judge is paid for an unusable output.
    return replace(row, rejection=check_instance(row.input, row.output))


async def answer_together(
    batch: Batch,
    draft: Candidate,
    position: str,
    count: int,
    ask: Ask,
    *,
    temperature: float,
    max_tokens: int,
    chain_of_thought: bool = False,
) -> list[Candidate]:
    """Ask the teacher for several different outputs in one call.

    Args:
        batch: gives language and seed.
        draft: the row without an output.
        position: names the call inside its batch.
        count: the number of answers.
        ask: the teacher.
        temperature: of the call.
        max_tokens: of one answer.
        chain_of_thought: ask for the reasoning before each answer.

    Returns:
        A row for each answer, those without a usable output rejected. A reply without any answer gives one rejection.
    """
    item = item_schema({"reasoning": TEXT, "output": TEXT}) if chain_of_thought else TEXT
    prompt = prompt_for(
        batch,
        "answers_steps" if chain_of_thought else "answers",
        f"answers-{position}",
        {
            "instruction": draft.instruction,
            "input": f"\n\n<input>{draft.input}</input>" if draft.input else "",
            "count": count,
            "language": language_name(batch.language),
        },
        list_schema("answers", item, count),
        step="answers",
        temperature=temperature,
        max_tokens=min(MAX_TOKENS_TOGETHER, max_tokens * count),
        operation=draft.operation,
    )
    reply = await ask(prompt)
    draft = draft.after(prompt, reply)
    items, faults = read_items(reply, "answers", ChainOfThought if chain_of_thought else PlainAnswer)
    if not items:
        # One reply was paid for and none of it can be used: that is one rejection, whatever is wrong with it.
        return [replace(draft, rejection=faults[0] if faults else Rejection("empty_reply"))]
    items, faults = limit_to_requested(items, faults, count)
    rows = [
        replace(
            draft,
            name=f"answer-{position}-{n}",
            output=clean(item.output),
            reasoning=clean(item.reasoning) if chain_of_thought else "",
        )
        for n, item in enumerate(items)
    ]
    return [replace(row, rejection=check_instance(row.input, row.output)) for row in rows] + [
        replace(draft, rejection=fault) for fault in faults
    ]
