"""One answer to an instruction: plain text, or a chain of thought with the reasoning in its own field."""

from dataclasses import replace

from pydantic import BaseModel, StrictStr

from app.synth.prompting.prompts import language_name
from app.synth.prompting.replies import read_object, read_text
from app.synth.prompting.requests import TEXT, object_schema, prompt_for
from app.synth.quality.filters import check_instance
from app.synth.text import clean
from app.synth.types import Ask, Batch, Candidate, Rejection


class ChainOfThought(BaseModel):
    """The reply of an answer with its reasoning."""

    reasoning: StrictStr
    output: StrictStr


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
