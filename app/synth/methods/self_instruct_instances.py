"""Instances of new instructions: a call for each instruction, or one for several (Wang et al. 2023, section 2.2)."""

from collections.abc import Sequence
from dataclasses import replace

from pydantic import BaseModel, StrictStr

from app.synth.prompting.prompts import language_name
from app.synth.prompting.replies import read_items
from app.synth.prompting.requests import TEXT, item_schema, list_schema, numbers_up_to, prompt_for
from app.synth.quality.filters import check_instance
from app.synth.quality.postprocess import limit_to_requested
from app.synth.text import clean, normalise
from app.synth.types import Ask, Batch, Candidate, Demonstration, Instance, Prompt, Rejection

# Tokens. A call for several instructions may need as many times the tokens of one, up to the bound of the option.
MAX_TOKENS_TOGETHER = 8192


class InputFirst(BaseModel):
    """One instance of a reply."""

    input: StrictStr = ""
    output: StrictStr


class NumberedInstance(InputFirst):
    """One instance of a reply to several instructions, with the number of its instruction in the prompt."""

    number: int


async def write_instances(batch: Batch, draft: Candidate, position: int, ask: Ask) -> list[Candidate]:
    """Make the call for the instances of one instruction.

    Args:
        batch: gives the language, the options and the examples.
        draft: the row with its instruction and its classification.
        position: names the call inside the batch.
        ask: the teacher.

    Returns:
        A row for each instance, the faulty ones with their rejection. A reply without any usable instance gives one
        rejected row.
    """
    options = batch.options
    # Output first for labels: a teacher that writes the input first gives most inputs the same label (section 2.2).
    first = "output" if draft.is_classification else "input"
    examples = [
        example
        for example in batch.examples
        if bool(example.is_classification) == bool(draft.is_classification) and example.instances
    ]
    prompt = prompt_for(
        batch,
        f"self_instruct_{first}_first",
        f"instances-{position}",
        {
            "demonstrations": "\n\n".join(_format_instance(example, first) for example in examples[:4]) or "(none)",
            "count": options.max_instances,
            "language": language_name(batch.language),
            "instruction": draft.instruction,
        },
        instance_schema(first, options.max_instances),
        step="instances",
        temperature=options.instance_temperature,
        presence_penalty=options.instance_presence_penalty,
        max_tokens=options.instance_tokens,
    )
    reply = await ask(prompt)
    draft = draft.after(prompt, reply)
    items, faults = read_items(reply, "instances", InputFirst)
    if not items:
        # One reply was paid for and none of it can be used: that is one rejection, whatever is wrong with it.
        return [replace(draft, rejection=faults[0] if faults else Rejection("empty_output"))]
    items, faults = limit_to_requested(items, faults, options.max_instances)
    return [replace(draft, rejection=fault) for fault in faults] + _check_instances(draft, items)


async def write_instances_together(
    batch: Batch, drafts: Sequence[Candidate], number: int, ask: Ask
) -> list[list[Candidate]]:
    """Make one call for the instances of several instructions.

    Args:
        batch: gives the language, the options and the examples.
        drafts: the rows with their instructions and classifications.
        number: names the call inside the batch.
        ask: the teacher.

    Returns:
        The rows of each draft, in the order of `drafts`. An instruction whose instance is missing or unreadable has
        one rejected row, and the others keep theirs.
    """
    prompt = _together_prompt(batch, drafts, number)
    reply = await ask(prompt)
    items, faults = read_items(reply, "instances", NumberedInstance)
    items_by_number: dict[int, list[NumberedInstance]] = {}
    for item in items:
        items_by_number.setdefault(item.number, []).append(item)
    # An unreadable item has no number that could be trusted: each fault explains one instruction without an instance.
    remaining_faults = iter(faults)
    rows_by_draft = []
    for n, draft in enumerate(drafts, 1):
        draft = draft.after(prompt, reply)
        draft_items = items_by_number.get(n, [])[: batch.options.max_instances]
        if draft_items:
            rows_by_draft.append(_check_instances(draft, draft_items))
        elif not items:
            # Nothing of the reply can be used: the first fault says why.
            rows_by_draft.append([replace(draft, rejection=faults[0] if faults else Rejection("empty_output"))])
        else:
            missing = Rejection("empty_output", "the reply has no instance of this instruction")
            rows_by_draft.append([replace(draft, rejection=next(remaining_faults, missing))])
    return rows_by_draft


def _together_prompt(batch: Batch, drafts: Sequence[Candidate], number: int) -> Prompt:
    options = batch.options
    examples = [example for example in batch.examples if example.instances]
    classified = [example for example in examples if example.is_classification][:2]
    composed = [example for example in examples if not example.is_classification][:2]
    # The label comes before the input for the same reason as in a call of its own: see `write_instances`.
    fields = {"number": numbers_up_to(len(drafts)), **dict.fromkeys(("label", "input", "output"), TEXT)}
    return prompt_for(
        batch,
        "self_instruct_together",
        f"instances-together-{number}",
        {
            "demonstrations": "\n\n".join(
                [_format_instance(example, "output") for example in classified]
                + [_format_instance(example, "input") for example in composed]
            )
            or "(none)",
            "count": options.max_instances,
            "language": language_name(batch.language),
            "tasks": "\n".join(_format_task(n, draft) for n, draft in enumerate(drafts, 1)),
        },
        list_schema("instances", item_schema(fields), len(drafts) * options.max_instances),
        step="instances",
        temperature=options.instance_temperature,
        presence_penalty=options.instance_presence_penalty,
        max_tokens=min(MAX_TOKENS_TOGETHER, options.instance_tokens * len(drafts)),
    )


def _format_task(number: int, draft: Candidate) -> str:
    kind = "\n   is_classification: true" if draft.is_classification else ""
    return f"{number}. {normalise(draft.instruction)}{kind}"


def _check_instances(draft: Candidate, items: Sequence[InputFirst]) -> list[Candidate]:
    """Check each instance by itself. Reject all of an instruction when an input has different outputs."""
    # As in the published code: an input with two outputs shows that the teacher does not know the answer.
    outputs: dict[str, set[str]] = {}
    for item in items:
        outputs.setdefault(normalise(item.input), set()).add(normalise(item.output))
    contradictory = any(len(texts) > 1 for input, texts in outputs.items() if input)
    rows, inputs = [], set()
    for item in items:
        row = replace(draft, input=clean(item.input), output=clean(item.output))
        rejection = Rejection("contradictory_outputs") if contradictory else check_instance(row.input, row.output)
        if rejection is None and normalise(row.input) in inputs:
            rejection = Rejection("repeated_in_reply")
        inputs.add(normalise(row.input))
        rows.append(replace(row, rejection=rejection))
    return rows


def instance_schema(first: str, max_instances: int) -> dict:
    """Return the schema of a list of instances.

    Args:
        first: `input`, or `output` where the label comes before an input that it fits.
        max_instances: the maximum of instances.
    """
    order = ("output", "input") if first == "output" else ("input", "output")
    return list_schema("instances", item_schema(dict.fromkeys(order, TEXT)), max_instances)


def _format_instance(example: Demonstration, first: str) -> str:
    instance: Instance = example.instances[0]
    parts = {
        "input": f"<input>{instance.input}</input>",
        "output": f"<output>{instance.output}</output>",
    }
    second = "input" if first == "output" else "output"
    return f"<instruction>{normalise(example.instruction)}</instruction>\n{parts[first]}\n{parts[second]}"
