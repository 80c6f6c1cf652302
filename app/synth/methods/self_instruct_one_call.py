"""Self-Instruct in one call: instruction, input and output together, as in Stanford Alpaca (Taori et al. 2023).

A row takes far fewer calls, but a duplicate is recognised only after its output was paid for.
"""

from dataclasses import replace

from pydantic import BaseModel, StrictStr

from app.synth.methods.conditioning import Conditioning, tag_row
from app.synth.prompting.chains import gather_until_budget, reject_on_failure
from app.synth.prompting.prompts import language_name
from app.synth.prompting.replies import read_items
from app.synth.prompting.requests import TEXT, item_schema, list_schema, prompt_for
from app.synth.quality.filters import check_instance
from app.synth.quality.judging import finish
from app.synth.quality.postprocess import apply_filters, limit_to_requested, normalise_instruction
from app.synth.text import clean, normalise
from app.synth.types import Ask, Batch, Candidate, Demonstration, Prefilter, Prompt, Proposal


class Row(BaseModel):
    """One row of a reply."""

    instruction: StrictStr
    input: StrictStr = ""
    output: StrictStr


async def propose(batch: Batch, ask: Ask, prefilter: Prefilter) -> Proposal:
    """Make one call for all rows of the batch, and check each of them."""
    prompt = _prompt(batch)
    reply = await ask(prompt)
    items, faults = limit_to_requested(*read_items(reply, "items", Row), batch.size)
    origin = Candidate("", parents=tuple(demonstration.id for demonstration in batch.demonstrations)).after(
        prompt, reply
    )
    origin = tag_row(origin, Conditioning.of(batch))
    drafts = [
        replace(
            origin,
            instruction=normalise_instruction(item.instruction),
            input=_clean_input(item.input),
            output=clean(item.output),
        )
        for item in items
    ]
    # Alpaca's checks of instructions; outputs are checked row by row below, beside the prefilter.
    drafts = apply_filters(drafts, batch.options.rules_for(batch.language))
    rejected = [replace(origin, rejection=fault) for fault in faults]
    chains = (reject_on_failure(row, _check_row(batch, row, n, ask, prefilter)) for n, row in enumerate(drafts))
    return Proposal((*rejected, *await gather_until_budget(chains)))


def _prompt(batch: Batch) -> Prompt:
    options = batch.options
    demonstrations = "\n\n".join(
        _format_demonstration(n, demonstration) for n, demonstration in enumerate(batch.demonstrations, 1)
    )
    return prompt_for(
        batch,
        "self_instruct_one_call",
        "items",
        {
            "demonstrations": demonstrations,
            "count": batch.size,
            "language": language_name(batch.language),
            "focus": Conditioning.of(batch).prompt_lines(batch.language),
        },
        list_schema("items", item_schema({"instruction": TEXT, "input": TEXT, "output": TEXT}), batch.size),
        step="items",
        temperature=options.of_variant("temperature"),
        top_p=options.top_p,
        presence_penalty=options.presence_penalty,
        max_tokens=options.of_variant("instruction_tokens"),
    )


def _format_demonstration(number: int, demonstration: Demonstration) -> str:
    lines = f"{number}. {normalise(demonstration.instruction)}"
    # One instance of each, as in Alpaca's prompt: the teacher is asked for one as well.
    for instance in demonstration.instances[:1]:
        lines += f"\n<input>{instance.input}</input>\n<output>{instance.output}</output>"
    return lines


def _clean_input(text: str) -> str:
    """Return the input, empty for Alpaca's mark of a missing input, which some teachers have learnt."""
    return "" if normalise(text).casefold().strip(".") in ("<noinput>", "noinput", "n/a", "none") else clean(text)


async def _check_row(batch: Batch, row: Candidate, position: int, ask: Ask, prefilter: Prefilter) -> Candidate:
    fault = row.rejection or check_instance(row.input, row.output) or await prefilter(row)
    if fault is not None:
        return replace(row, rejection=fault)
    return await finish(batch, row, str(position), ask)
