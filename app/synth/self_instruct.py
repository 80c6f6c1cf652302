"""Self-Instruct (Wang et al. 2023, section 2): instructions from demonstrations, then their instances.

Two stages: one call proposes several instructions; each that passes the rules and the look at the pool
goes its own way through classification and instances, so that none waits for the slowest.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pydantic import BaseModel, ConfigDict, Field, RootModel, StrictStr

from app.synth.filters import Rule, check_instance, check_instruction, instruction_rules
from app.synth.prompts import language_name, template
from app.synth.replies import read_items, read_object
from app.synth.text import clean, normalise
from app.synth.types import (
    Ask,
    Candidate,
    Demonstration,
    Instance,
    Prompt,
    Proposal,
    Rejection,
    Reply,
    Screen,
)


class Options(BaseModel):
    """What a caller may set. The defaults are the paper's where it names them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed_demonstrations: int = Field(default=6, ge=1, le=20, description="Seeds shown in each prompt.")
    pool_demonstrations: int = Field(default=2, ge=0, le=20, description="Accepted records shown; seeds at first.")
    instructions_per_call: int = Field(default=8, ge=1, le=20, description="New instructions asked for at once.")
    max_instances: int = Field(default=1, ge=1, le=5, description="Instances kept of one instruction.")
    temperature: float = Field(default=0.7, ge=0, le=2, description="Of the call that writes instructions.")
    top_p: float | None = Field(default=None, gt=0, le=1)
    instance_temperature: float = Field(default=0.0, ge=0, le=2, description="Of the call that writes instances.")
    instruction_tokens: int = Field(default=1024, ge=64, le=8192, description="Most tokens of an instruction call.")
    instance_tokens: int = Field(default=1024, ge=64, le=8192, description="Most tokens of an instance call.")


@dataclass(frozen=True)
class Batch:
    """All that shapes the prompts of one batch: with the same one, the same requests are made."""

    demonstrations: tuple[Demonstration, ...]
    examples: tuple[Demonstration, ...]
    language: str
    seed: int
    options: Options = Options()
    rules: tuple[Rule, ...] = field(default=())


class InstructionText(RootModel[StrictStr]):
    pass


class Classification(BaseModel):
    is_classification: bool


class InputFirst(BaseModel):
    input: StrictStr = ""
    output: StrictStr


def mix_demonstrations(
    seeds: Sequence[Demonstration], pool: Sequence[Demonstration], options: Options, rng: random.Random
) -> tuple[Demonstration, ...]:
    """6 seeds and 2 accepted records, shuffled; seeds take the places that the pool can't fill yet."""
    chosen = rng.sample(list(pool), min(options.pool_demonstrations, len(pool)))
    wanted = options.seed_demonstrations + options.pool_demonstrations - len(chosen)
    chosen += rng.sample(list(seeds), min(wanted, len(seeds)))
    rng.shuffle(chosen)
    return tuple(chosen)


async def propose(batch: Batch, ask: Ask, screen: Screen) -> Proposal:
    """One batch: a call for instructions, then a chain of calls for each that is new and well-formed."""
    instructions, rejected = await _write_instructions(batch, ask)
    chains = [_grow(batch, draft, place, ask, screen) for place, draft in enumerate(instructions)]
    # When one chain can't go on, the others' calls in flight still come home and are kept.
    grown = await asyncio.gather(*chains, return_exceptions=True)
    for chain in grown:
        if isinstance(chain, BaseException):
            raise chain
    return Proposal((*rejected, *(candidate for chain in grown for candidate in chain)))


async def _write_instructions(batch: Batch, ask: Ask) -> tuple[list[Candidate], list[Candidate]]:
    options, page = batch.options, template("self_instruct_instructions", batch.language)
    numbered = (f"{n}. {normalise(shown.instruction)}" for n, shown in enumerate(batch.demonstrations, 1))
    prompt = Prompt(
        step="instructions",
        position="instructions",
        system=page.system,
        user=page.render(
            demonstrations="\n".join(numbered),
            count=options.instructions_per_call,
            language=language_name(batch.language),
        ),
        schema=_list_schema("instructions", {"type": "string"}, options.instructions_per_call),
        temperature=options.temperature,
        top_p=options.top_p,
        max_tokens=options.instruction_tokens,
        template=page.digest,
        seed=batch.seed,
    )
    reply = await ask(prompt)
    items, faults = read_items(reply, "instructions", InstructionText)
    origin = Candidate(
        "",
        parents=tuple(shown.id for shown in batch.demonstrations),
        completions=(reply.id,),
        templates=(page.digest,),
        simulated=reply.simulated,
    )
    drafts, rejected = [], [replace(origin, rejection=fault) for fault in faults]
    seen: set[str] = set()
    for item in items[: options.instructions_per_call]:
        draft = replace(origin, instruction=tidy(item.root))
        found = check_instruction(draft.instruction, batch.rules or instruction_rules(batch.language))
        if found is None and draft.instruction.casefold() in seen:
            found = Rejection("repeated_in_reply")
        seen.add(draft.instruction.casefold())
        (drafts.append(draft) if found is None else rejected.append(replace(draft, rejection=found)))
    return drafts, rejected


def tidy(text: str) -> str:
    """White space collapsed, a list number in front and a colon at the end cut off."""
    text = normalise(clean(text))
    number, dot, rest = text.partition(". ")
    return (rest if dot and number.isdigit() else text).rstrip(":：").strip()


async def _grow(batch: Batch, draft: Candidate, place: int, ask: Ask, screen: Screen) -> list[Candidate]:
    known = await screen(draft.instruction)
    if known is not None:
        return [replace(draft, rejection=known)]
    judged = await _classify(batch, draft, place, ask)
    return await _write_instances(batch, judged, place, ask)


async def _classify(batch: Batch, draft: Candidate, place: int, ask: Ask) -> Candidate:
    """Whether the label comes first. An unreadable answer counts as no, as in the published code."""
    page = template("self_instruct_classification", batch.language)
    shown = "\n\n".join(_classified(example) for example in _mixed_examples(batch.examples))
    prompt = Prompt(
        step="classification",
        position=f"classification-{place}",
        system=page.system,
        user=page.render(demonstrations=shown, instruction=draft.instruction),
        schema=_object_schema("classification", {"is_classification": {"type": "boolean"}}),
        temperature=0.0,
        max_tokens=32,
        template=page.digest,
        seed=batch.seed,
    )
    reply = await ask(prompt)
    answer = read_object(reply, Classification)
    yes = isinstance(answer, Classification) and answer.is_classification
    return _with_reply(replace(draft, is_classification=yes), reply, page.digest)


async def _write_instances(batch: Batch, draft: Candidate, place: int, ask: Ask) -> list[Candidate]:
    options = batch.options
    first = "output" if draft.is_classification else "input"
    page = template(f"self_instruct_{first}_first", batch.language)
    examples = [e for e in batch.examples if bool(e.is_classification) == draft.is_classification and e.instances]
    prompt = Prompt(
        step="instances",
        position=f"instances-{place}",
        system=page.system,
        user=page.render(
            demonstrations="\n\n".join(_worked(example, first) for example in examples[:4]) or "(none)",
            count=options.max_instances,
            language=language_name(batch.language),
            instruction=draft.instruction,
        ),
        schema=instance_schema(first, options.max_instances),
        temperature=options.instance_temperature,
        max_tokens=options.instance_tokens,
        template=page.digest,
        seed=batch.seed,
    )
    reply = await ask(prompt)
    draft = _with_reply(draft, reply, page.digest)
    items, faults = read_items(reply, "instances", InputFirst)
    rejected = [replace(draft, rejection=fault) for fault in faults]
    return rejected + _check_instances(draft, items[: options.max_instances])


def _check_instances(draft: Candidate, items: Sequence[InputFirst]) -> list[Candidate]:
    """Each instance by itself; and all of an instruction when one input has different outputs."""
    outputs: dict[str, set[str]] = {}
    for item in items:
        outputs.setdefault(normalise(item.input), set()).add(normalise(item.output))
    contradictory = any(len(found) > 1 for asked, found in outputs.items() if asked)
    kept, seen = [], set()
    for item in items:
        row = replace(draft, input=clean(item.input), output=clean(item.output))
        found = Rejection("contradictory_outputs") if contradictory else check_instance(row.input, row.output)
        if found is None and normalise(row.input) in seen:
            found = Rejection("repeated_in_reply")
        seen.add(normalise(row.input))
        kept.append(replace(row, rejection=found))
    return kept or [replace(draft, rejection=Rejection("empty_output"))]


def instance_schema(first: str, most: int) -> dict:
    order = ("output", "input") if first == "output" else ("input", "output")
    item = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in order},
        "required": list(order),
        "additionalProperties": False,
    }
    return _list_schema("instances", item, most)


def _list_schema(name: str, item: dict, most: int) -> dict:
    return _object_schema(name, {name: {"type": "array", "items": item, "minItems": 1, "maxItems": most}})


def _object_schema(name: str, properties: dict) -> dict:
    return {
        "title": name,
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _with_reply(draft: Candidate, reply: Reply, digest: str) -> Candidate:
    return replace(
        draft,
        completions=(*draft.completions, reply.id),
        templates=(*draft.templates, digest),
        simulated=draft.simulated or reply.simulated,
    )


def _mixed_examples(examples: Sequence[Demonstration]) -> list[Demonstration]:
    """Both answers in turn, so that neither is the habit of the prompt. The order is that of `examples`."""
    yes = [e for e in examples if e.is_classification][:4]
    no = [e for e in examples if not e.is_classification][:4]
    return [e for pair in zip(yes, no, strict=False) for e in pair] + yes[len(no) :] + no[len(yes) :]


def _classified(example: Demonstration) -> str:
    answer = "true" if example.is_classification else "false"
    return f'<instruction>{normalise(example.instruction)}</instruction>\n{{"is_classification": {answer}}}'


def _worked(example: Demonstration, first: str) -> str:
    shown: Instance = example.instances[0]
    parts = {
        "input": f"<input>{shown.input}</input>",
        "output": f"<output>{shown.output}</output>",
    }
    second = "input" if first == "output" else "output"
    return f"<instruction>{normalise(example.instruction)}</instruction>\n{parts[first]}\n{parts[second]}"
