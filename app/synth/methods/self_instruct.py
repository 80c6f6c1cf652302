"""Self-Instruct (Wang et al. 2023, section 2): instructions from demonstrations, then their instances.

Two stages: one call proposes several instructions and says of each whether it is a classification task. Each
instruction that passes the rules and the prefilter has its own chain of calls, so that none waits for the slowest; with
`instances = "together"` several instructions share a call. The paper asks for the classification in a call of its own
(`classification = "own_call"`). With `variant = "one_call"` a call returns instructions with their inputs and outputs
(see self_instruct_one_call).
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, Field, model_validator

from app.synth.methods import self_instruct_one_call
from app.synth.methods.conditioning import Conditioning, check_shares, tag_row
from app.synth.methods.method import Method
from app.synth.methods.self_instruct_instances import write_instances, write_instances_together
from app.synth.methods.self_instruct_instructions import write_instructions
from app.synth.prompting.chains import (
    gather_all,
    gather_until_budget,
    keep_rejected,
    reject_all_on_failure,
    reject_on_failure,
    reject_once_on_failure,
)
from app.synth.prompting.replies import read_object
from app.synth.prompting.requests import YES_NO, object_schema, prompt_for
from app.synth.quality.judging import finish, judge_question
from app.synth.quality.options import MethodOptions
from app.synth.text import normalise
from app.synth.types import (
    Ask,
    Batch,
    Candidate,
    Demonstration,
    Prefilter,
    Proposal,
    Rejection,
)

# More would make a reply too long for many teachers, and a reply that breaks off would cost more rows.
MAX_INSTRUCTIONS_TOGETHER = 8


class Options(MethodOptions):
    """What a caller may set. Where a default is unset it is that of the variant: the paper's, or Alpaca's."""

    prompt_names: ClassVar[tuple[str, ...]] = (
        "self_instruct_instructions",
        "self_instruct_instructions_only",
        "self_instruct_classification",
        "self_instruct_input_first",
        "self_instruct_output_first",
        "self_instruct_together",
        "self_instruct_one_call",
    )

    variant: Literal["two_stage", "one_call"] = Field(
        default="two_stage", description="Instances in calls of their own, or with the instruction (Alpaca's economy)."
    )
    classification: Literal["with_instructions", "own_call"] = Field(
        default="with_instructions",
        description="Whether a task is a classification: asked together with the instructions, or, as in the paper, "
        "in a call for each new instruction (two stages).",
    )
    instances: Literal["one_each", "together"] = Field(
        default="one_each",
        description="A call for the instances of each new instruction, or one for up to eight of a batch (two stages).",
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
        if self.variant == "one_call" and self.classification == "own_call":
            raise ValueError("classification: in one call no instruction is classified; set variant to two_stage")
        if self.variant == "one_call" and self.instances == "together":
            raise ValueError("instances: in one call they come with their instructions; set variant to two_stage")
        return self

    def unsent_prompts(self) -> dict[str, str]:
        """Return the prompts of the other setting of `classification`."""
        if self.variant == "one_call":
            return {}
        if self.classification == "own_call":
            return {"self_instruct_instructions": "self_instruct_instructions_only"}
        return dict.fromkeys(
            ("self_instruct_instructions_only", "self_instruct_classification"), "self_instruct_instructions"
        )

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


class Classification(BaseModel):
    """The reply on whether an instruction's outputs are labels."""

    is_classification: bool


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
    drafts = await write_instructions(batch, ask)
    rejected = [draft for draft in drafts if draft.rejection is not None]
    new_drafts = [draft for draft in drafts if draft.rejection is None]
    if batch.options.instances == "together":
        return Proposal((*rejected, *await _complete_together(batch, new_drafts, ask, prefilter)))
    chains = await gather_until_budget(
        reject_once_on_failure(draft, _complete_draft(batch, draft, position, ask, prefilter))
        for position, draft in enumerate(new_drafts)
    )
    return Proposal((*rejected, *(candidate for chain in chains for candidate in chain)))


async def _complete_draft(
    batch: Batch, draft: Candidate, position: int, ask: Ask, prefilter: Prefilter
) -> list[Candidate]:
    draft = await _screen(batch, draft, position, ask, prefilter)
    if draft.rejection is not None:
        return [draft]
    return await _finish_rows(batch, await write_instances(batch, draft, position, ask), position, ask)


async def _complete_together(
    batch: Batch, drafts: Sequence[Candidate], ask: Ask, prefilter: Prefilter
) -> list[Candidate]:
    """Screen all drafts first, so that the calls for instances hold new instructions alone."""
    screened = await gather_until_budget(
        reject_on_failure(draft, _screen(batch, draft, position, ask, prefilter))
        for position, draft in enumerate(drafts)
    )
    rejected = [draft for draft in screened if draft.rejection is not None]
    new_drafts = [draft for draft in screened if draft.rejection is None]
    groups = [
        new_drafts[start : start + MAX_INSTRUCTIONS_TOGETHER]
        for start in range(0, len(new_drafts), MAX_INSTRUCTIONS_TOGETHER)
    ]
    return await keep_rejected(rejected, _complete_groups(batch, groups, ask))


async def _complete_groups(batch: Batch, groups: Sequence[Sequence[Candidate]], ask: Ask) -> list[Candidate]:
    completed = await gather_until_budget(
        reject_all_on_failure(group, _complete_group(batch, group, number, ask)) for number, group in enumerate(groups)
    )
    return [row for rows in completed for row in rows]


async def _complete_group(batch: Batch, drafts: Sequence[Candidate], number: int, ask: Ask) -> list[Candidate]:
    rows_by_draft = await write_instances_together(batch, drafts, number, ask)
    first = number * MAX_INSTRUCTIONS_TOGETHER
    finished = await gather_until_budget(
        _finish_rows(batch, rows, position, ask) for position, rows in enumerate(rows_by_draft, first)
    )
    return [row for rows in finished for row in rows]


async def _screen(batch: Batch, draft: Candidate, position: int, ask: Ask, prefilter: Prefilter) -> Candidate:
    """Return the draft, rejected or ready for its instances: new, judged and classified."""
    # Before the classification and the instance are paid for: a duplicate here has cost a part of one call.
    near_duplicate = await prefilter(draft)
    if near_duplicate is not None:
        return replace(draft, rejection=near_duplicate)
    if batch.options.judging.question:
        draft = await judge_question(batch, draft, str(position), ask)
        if draft.rejection is not None:
            return draft
    if batch.options.classification == "own_call":
        # Only a new instruction is classified, since the answer decides which field the next prompt asks for first.
        draft = await _classify(batch, draft, position, ask)
    if draft.is_classification is None:
        draft = draft.with_unknown_verdict("classification")
    return tag_row(draft, Conditioning.of(batch))


async def _finish_rows(batch: Batch, rows: Sequence[Candidate], position: int, ask: Ask) -> list[Candidate]:
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
    return draft if isinstance(answer, Rejection) else replace(draft, is_classification=answer.is_classification)


def _mixed_examples(examples: Sequence[Demonstration]) -> list[Demonstration]:
    """Return examples of both answers in turn, since a teacher tends to repeat the last answers of a prompt."""
    yes = [e for e in examples if e.is_classification][:4]
    no = [e for e in examples if not e.is_classification][:4]
    return [e for pair in zip(yes, no, strict=False) for e in pair] + yes[len(no) :] + no[len(yes) :]


def _format_classified(example: Demonstration) -> str:
    answer = "true" if example.is_classification else "false"
    return f'<instruction>{normalise(example.instruction)}</instruction>\n{{"is_classification": {answer}}}'


def _min_steps(options: Options) -> int:
    return 1 if options.variant == "one_call" else 2 + (options.classification == "own_call")


METHOD = Method(
    name="self_instruct",
    summary="New instructions from seeds and accepted records, then their inputs and outputs.",
    options=Options,
    make=propose,
    draws_from=lambda options: "seeds",
    batch_size=lambda options: options.of_variant("instructions_per_call"),
    candidates=lambda options: options.max_instances if options.variant == "two_stage" else 1,
    min_steps=_min_steps,
)
