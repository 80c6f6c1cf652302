"""New instructions from demonstrations, with or without their classification (Wang et al. 2023, sections 2.1, 2.2)."""

from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, RootModel, StrictStr, model_validator

from app.synth.methods.conditioning import Conditioning
from app.synth.prompting.prompts import language_name
from app.synth.prompting.replies import read_items, read_yes_or_no
from app.synth.prompting.requests import TEXT, YES_NO, item_schema, list_schema, prompt_for
from app.synth.quality.postprocess import apply_filters, limit_to_requested, normalise_instruction
from app.synth.text import normalise
from app.synth.types import Ask, Batch, Candidate, Demonstration, Prompt, Rejection, Reply


class InstructionText(RootModel[StrictStr]):
    """One instruction of a reply."""


class NewInstruction(BaseModel):
    """One instruction of a reply, and whether it is a classification task; None where this could not be read."""

    instruction: StrictStr
    is_classification: Annotated[bool | None, BeforeValidator(read_yes_or_no)] = None

    @model_validator(mode="before")
    @classmethod
    def takes_a_plain_text(cls, value: object) -> object:
        """Take a text in the place of an object, since teachers shorten lists; its flag is unknown."""
        return {"instruction": value} if isinstance(value, str) else value


async def write_instructions(batch: Batch, ask: Ask) -> list[Candidate]:
    """Make the call for new instructions.

    Args:
        batch: gives the demonstrations, the number of instructions and the options.
        ask: the teacher.

    Returns:
        A row for each instruction of the reply, with its classification where the call asked for it. Those that
        could not be read, break a rule or repeat another one of the reply have a rejection.
    """
    options = batch.options
    with_flag = options.classification == "with_instructions"
    prompt = _prompt(batch, with_flag)
    reply = await ask(prompt)
    items, faults = limit_to_requested(*_read_instructions(reply, with_flag), batch.size)
    origin = Candidate("", parents=tuple(demonstration.id for demonstration in batch.demonstrations)).after(
        prompt, reply
    )
    drafts = [
        replace(
            origin,
            instruction=normalise_instruction(item.instruction),
            is_classification=item.is_classification,
        )
        for item in items
    ]
    rejected = [replace(origin, rejection=fault) for fault in faults]
    return rejected + apply_filters(drafts, options.rules_for(batch.language))


def _prompt(batch: Batch, with_flag: bool) -> Prompt:
    options = batch.options
    return prompt_for(
        batch,
        "self_instruct_instructions" if with_flag else "self_instruct_instructions_only",
        "instructions",
        {
            "demonstrations": "\n".join(
                _format_demonstration(n, demonstration, with_flag)
                for n, demonstration in enumerate(batch.demonstrations, 1)
            ),
            "count": batch.size,
            "language": language_name(batch.language),
            "focus": Conditioning.of(batch).prompt_lines(batch.language),
        },
        list_schema(
            "instructions",
            item_schema({"instruction": TEXT, "is_classification": YES_NO}) if with_flag else TEXT,
            batch.size,
        ),
        step="instructions",
        temperature=options.of_variant("temperature"),
        top_p=options.top_p,
        presence_penalty=options.presence_penalty,
        max_tokens=options.of_variant("instruction_tokens"),
    )


def _format_demonstration(number: int, demonstration: Demonstration, with_flag: bool) -> str:
    line = f"{number}. {normalise(demonstration.instruction)}"
    if not with_flag or demonstration.is_classification is None:
        return line
    return f"{line}\n   is_classification: {'true' if demonstration.is_classification else 'false'}"


def _read_instructions(reply: Reply, with_flag: bool) -> tuple[list[NewInstruction], list[Rejection]]:
    if with_flag:
        return read_items(reply, "instructions", NewInstruction)
    items, faults = read_items(reply, "instructions", InstructionText)
    return [NewInstruction(instruction=item.root) for item in items], faults
