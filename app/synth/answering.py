"""One answer to an instruction: plain text, or worked out step by step with the reasoning in its own field."""

from dataclasses import replace

from pydantic import BaseModel, StrictStr

from app.synth.filters import check_instance
from app.synth.prompting import TEXT, object_schema, prompt_for
from app.synth.prompts import language_name
from app.synth.replies import read_object, read_text
from app.synth.text import clean
from app.synth.types import Ask, Batch, Candidate, Rejection


class Steps(BaseModel):
    reasoning: StrictStr
    output: StrictStr


async def answer(
    batch: Batch,
    draft: Candidate,
    place: str,
    ask: Ask,
    *,
    temperature: float,
    max_tokens: int,
    steps: bool = False,
    seed: int = 0,
) -> Candidate:
    """The draft with an output; turned away when the reply can't be used as one."""
    prompt = prompt_for(
        batch,
        "answer_steps" if steps else "answer",
        f"answer-{place}",
        {
            "instruction": draft.instruction,
            "input": f"\n\n<input>{draft.input}</input>" if draft.input else "",
            "language": language_name(batch.language),
        },
        object_schema("answer", {"reasoning": TEXT, "output": TEXT}) if steps else None,
        step="answer",
        temperature=temperature,
        max_tokens=max_tokens,
        operation=draft.operation,
        seed=seed,
    )
    reply = await ask(prompt)
    row = draft.after(prompt, reply)
    found = read_object(reply, Steps) if steps else read_text(reply)
    if isinstance(found, Rejection):
        return replace(row, rejection=found)
    if steps:
        row = replace(row, reasoning=clean(found.reasoning))
    row = replace(row, output=clean(found.output if steps else found))
    return replace(row, rejection=check_instance(row.input, row.output))
