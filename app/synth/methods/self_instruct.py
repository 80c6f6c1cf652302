"""Self-Instruct (Wang et al. 2023, section 2): instructions from demonstrations, then their instances.

Two stages: one call proposes several instructions. Each instruction that passes the rules and the prefilter has its own
chain of calls for classification and instances, so that none waits for the slowest. With `variant = "one_call"` a call
returns instructions with their inputs and outputs (see self_instruct_one_call).
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, Field, RootModel, StrictStr, model_validator

from app.synth.methods import self_instruct_one_call
from app.synth.methods.conditioning import Conditioning, check_shares, tag_row
from app.synth.methods.method import Method
from app.synth.prompting.chains import gather_all, gather_until_budget, reject_on_failure, reject_once_on_failure
from app.synth.prompting.prompts import language_name
from app.synth.prompting.replies import read_items, read_object
from app.synth.prompting.requests import TEXT, YES_NO, item_schema, list_schema, object_schema, prompt_for
from app.synth.quality.filters import check_instance
from app.synth.quality.judging import finish, judge_question
from app.synth.quality.options import MethodOptions
from app.synth.quality.postprocess import apply_filters, limit_to_requested, normalise_instruction
from app.synth.text import clean, normalise
from app.synth.types import Ask, Batch, Candidate, Demonstration, Instance, Prefilter, Proposal, Rejection


class Options(MethodOptions):
    """What a caller may set. Where a default is unset it is that of the variant: the paper's, or Alpaca's."""

    prompt_names: ClassVar[tuple[str, ...]] = (
        "self_instruct_instructions",
        "self_instruct_classification",
        "self_instruct_input_first",
        "self_instruct_output_first",
        "self_instruct_one_call",
    )

    variant: Literal["two_stage", "one_call"] = Field(
        default="two_stage", description="Instances in calls of their own, or with the instruction (Alpaca's economy)."
    )
    seed_demonstrations: int | None = Field(default=None, ge=1, le=20, description="Seeds shown: 6, or 3.")
    pool_demonstrations: int | None = Field(default=None, ge=0, le=20, description="Accepted records shown: 2, or 0.")
    sampling: Literal["uniform", "coverage"] = Field(
        default="uniform", description="How records are drawn: evenly, or from sparse regions of the pool's embedding."
    )
    instructions_per_call: int | None = Field(default=None, ge=1, le=20, description="Asked for at once: 8, or 10.")
    topics: tuple[str, ...] = Field(default=(), max_length=1000, description="Each batch is told to turn to one.")
    task_types: Annotated[dict[str, float], AfterValidator(check_shares)] = Field(
        default={}, max_length=50, description="Quotas: shares of task types; `classification` is one that is checked."
    )
    max_instances: int = Field(default=1, ge=1, le=5, description="Instances kept of one instruction (two stages).")
    temperature: float | None = Field(default=None, ge=0, le=2, description="Of new instructions: 0.7, or 1.0.")
    top_p: float | None = Field(default=None, gt=0, le=1, description="Of new instructions.")
    instance_temperature: float = Field(default=0.0, ge=0, le=2, description="Of the call that writes instances.")
    presence_penalty: float | None = Field(
        default=None, ge=-2, le=2, description="Of new instructions: 2 in the paper; not sent unless given."
    )
    instance_presence_penalty: float | None = Field(
        default=None, ge=-2, le=2, description="Of instances: 1.5 in the paper; not sent unless given."
    )
    instruction_tokens: int | None = Field(
        default=None, ge=64, le=16384, description="Most tokens of a call for new instructions: 1024, or 3072."
    )
    instance_tokens: int = Field(default=1024, ge=64, le=8192, description="Most tokens of an instance call.")

    @model_validator(mode="after")
    def fits_the_variant(self) -> "Options":
        """Refuse options that the variant with one call cannot follow."""
        if self.variant == "one_call" and self.judging.question:
            raise ValueError("judging.question: in one call answers come with their questions; set judging.answer")
        if self.variant == "one_call" and self.max_instances > 1:
            raise ValueError("max_instances: one call gives one instance of each instruction")
        return self

    def of_variant(self, name: str) -> int | float:
        """Return the value of an option, or the default of the variant where it is unset."""
        value = getattr(self, name)
        return _DEFAULTS[self.variant][name] if value is None else value


# Defaults by variant: after Self-Instruct, and after Alpaca, whose prompts show no generated rows.
_DEFAULTS: dict[str, dict[str, int | float]] = {
    "two_stage": {
        "seed_demonstrations": 6,
        "pool_demonstrations": 2,
        "instructions_per_call": 8,
        "temperature": 0.7,
        "instruction_tokens": 1024,
    },
    "one_call": {
        "seed_demonstrations": 3,
        "pool_demonstrations": 0,
        "instructions_per_call": 10,
        "temperature": 1.0,
        "instruction_tokens": 3072,
    },
}


class InstructionText(RootModel[StrictStr]):
    """One instruction of a reply."""


class Classification(BaseModel):
    """The reply on whether an instruction's outputs are labels."""

    is_classification: bool


class InputFirst(BaseModel):
    """One instance of a reply."""

    input: StrictStr = ""
    output: StrictStr


def mix_demonstrations(
    seeds: Sequence[Demonstration], pool: Sequence[Demonstration], options: Options, rng: random.Random
) -> tuple[Demonstration, ...]:
    """Draw the demonstrations of a prompt: 6 seeds and 2 accepted records by default (Wang et al. 2023, section 2.2).

    Args:
        seeds: all seeds.
        pool: accepted records; where they are too few, seeds replace them.
        options: has both numbers.
        rng: the source of randomness.

    Returns:
        The demonstrations in random order.
    """
    max_pool = options.of_variant("pool_demonstrations")
    demonstrations = rng.sample(list(pool), min(max_pool, len(pool)))
    seed_count = options.of_variant("seed_demonstrations") + max_pool - len(demonstrations)
    demonstrations += rng.sample(list(seeds), min(seed_count, len(seeds)))
    # Shuffled, since a teacher imitates the last demonstrations most.
    rng.shuffle(demonstrations)
    return tuple(demonstrations)


async def propose(batch: Batch, ask: Ask, prefilter: Prefilter) -> Proposal:
    """Make one call for instructions, then a chain of calls for each instruction that is new and well-formed."""
    if batch.options.variant == "one_call":
        return await self_instruct_one_call.propose(batch, ask, prefilter)
    # One call for many instructions: alone this call is shared by several rows, and it shows the teacher its own list.
    drafts = await _write_instructions(batch, ask)
    rejected = [draft for draft in drafts if draft.rejection is not None]
    new_drafts = [draft for draft in drafts if draft.rejection is None]
    chains = await gather_until_budget(
        reject_once_on_failure(draft, _complete_draft(batch, draft, position, ask, prefilter))
        for position, draft in enumerate(new_drafts)
    )
    return Proposal((*rejected, *(candidate for chain in chains for candidate in chain)))


async def _write_instructions(batch: Batch, ask: Ask) -> list[Candidate]:
    options: Options = batch.options
    numbered = (
        f"{n}. {normalise(demonstration.instruction)}" for n, demonstration in enumerate(batch.demonstrations, 1)
    )
    prompt = prompt_for(
        batch,
        "self_instruct_instructions",
        "instructions",
        {
            "demonstrations": "\n".join(numbered),
            "count": batch.size,
            "language": language_name(batch.language),
            "focus": Conditioning.of(batch).prompt_lines(batch.language),
        },
        list_schema("instructions", TEXT, batch.size),
        step="instructions",
        temperature=options.of_variant("temperature"),
        top_p=options.top_p,
        presence_penalty=options.presence_penalty,
        max_tokens=options.of_variant("instruction_tokens"),
    )
    reply = await ask(prompt)
    items, faults = limit_to_requested(*read_items(reply, "instructions", InstructionText), batch.size)
    origin = Candidate("", parents=tuple(demonstration.id for demonstration in batch.demonstrations)).after(
        prompt, reply
    )
    drafts = [replace(origin, instruction=normalise_instruction(item.root)) for item in items]
    rejected = [replace(origin, rejection=fault) for fault in faults]
    return rejected + apply_filters(drafts, options.rules_for(batch.language))


async def _complete_draft(
    batch: Batch, draft: Candidate, position: int, ask: Ask, prefilter: Prefilter
) -> list[Candidate]:
    # Before the classification and the instance are paid for: a duplicate here has cost a part of one call.
    near_duplicate = await prefilter(draft)
    if near_duplicate is not None:
        return [replace(draft, rejection=near_duplicate)]
    if batch.options.judging.question:
        draft = await judge_question(batch, draft, str(position), ask)
        if draft.rejection is not None:
            return [draft]
    # Only a new instruction is classified, since the answer decides which field the next prompt asks for first.
    classified = await _classify(batch, draft, position, ask)
    rows = await _write_instances(batch, tag_row(classified, Conditioning.of(batch)), position, ask)
    finished = iter(
        await gather_all(
            reject_on_failure(row, finish(batch, row, f"{position}-{n}", ask))
            for n, row in enumerate(rows)
            if row.rejection is None
        )
    )
    return [row if row.rejection is not None else next(finished) for row in rows]


async def _classify(batch: Batch, draft: Candidate, position: int, ask: Ask) -> Candidate:
    """Whether the label comes first. An unreadable answer is stored as unknown, and its instance begins with an input.

    The published code takes an unreadable answer for a no. The row says None here, so that a report can count it.
    """
    demonstrations = "\n\n".join(_format_classified(example) for example in _mixed_examples(batch.examples))
    prompt = prompt_for(
        batch,
        "self_instruct_classification",
        f"classification-{position}",
        {"demonstrations": demonstrations, "instruction": draft.instruction},
        object_schema("classification", {"is_classification": YES_NO}),
        step="classification",
        temperature=0.0,
        max_tokens=32,
    )
    reply = await ask(prompt)
    answer = read_object(reply, Classification)
    draft = draft.after(prompt, reply)
    if isinstance(answer, Rejection):
        return draft.with_unknown_verdict("classification")
    return replace(draft, is_classification=answer.is_classification)


async def _write_instances(batch: Batch, draft: Candidate, position: int, ask: Ask) -> list[Candidate]:
    options: Options = batch.options
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


def _mixed_examples(examples: Sequence[Demonstration]) -> list[Demonstration]:
    """Return examples of both answers in turn, since a teacher tends to repeat the last answers of a prompt."""
    yes = [e for e in examples if e.is_classification][:4]
    no = [e for e in examples if not e.is_classification][:4]
    return [e for pair in zip(yes, no, strict=False) for e in pair] + yes[len(no) :] + no[len(yes) :]


def _format_classified(example: Demonstration) -> str:
    answer = "true" if example.is_classification else "false"
    return f'<instruction>{normalise(example.instruction)}</instruction>\n{{"is_classification": {answer}}}'


def _format_instance(example: Demonstration, first: str) -> str:
    instance: Instance = example.instances[0]
    parts = {
        "input": f"<input>{instance.input}</input>",
        "output": f"<output>{instance.output}</output>",
    }
    second = "input" if first == "output" else "output"
    return f"<instruction>{normalise(example.instruction)}</instruction>\n{parts[first]}\n{parts[second]}"


METHOD = Method(
    name="self_instruct",
    summary="New instructions from seeds and accepted records, then their inputs and outputs.",
    options=Options,
    make=propose,
    draws_from=lambda options: "seeds",
    batch_size=lambda options: options.of_variant("instructions_per_call"),
    candidates=lambda options: options.max_instances if options.variant == "two_stage" else 1,
    min_steps=lambda options: 3 if options.variant == "two_stage" else 1,
)
