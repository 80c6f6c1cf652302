"""Evol-Instruct (Xu et al. 2023, "WizardLM", section 3): instructions rewritten round after round, and answered.

A lineage is one chain of calls: it never waits for another lineage's round. A child that fails is rejected and
its parent goes on (the paper's elimination); with `survival = "selection"` the best of several children goes on.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    field_validator,
    model_validator,
)

from app.synth.methods.answering import answer
from app.synth.methods.method import Method
from app.synth.methods.operations import OPERATIONS, WEIGHTS, OperationKind, leaks, wording
from app.synth.methods.parents import ParentFilter
from app.synth.prompting.chains import gather_all, gather_until_budget, reject_on_failure
from app.synth.prompting.prompts import language_name
from app.synth.prompting.replies import read_object
from app.synth.prompting.requests import TEXT, YES_NO, object_schema, prompt_for
from app.synth.quality.filters import PRESETS, check_instruction, check_row
from app.synth.quality.judging import finish, judge_question, rule_mean
from app.synth.quality.options import MethodOptions
from app.synth.quality.rules import Name, Rule, digest_of
from app.synth.quality.scores import only_stop_words
from app.synth.text import clean, count_words, normalise
from app.synth.types import Ask, Batch, CallsEnded, Candidate, Pair, Parent, Prefilter, Prompt, Proposal, Rejection

# The paper names "sorry" alone; the Korean words are those with which a teacher declines.
_APOLOGIES = ("sorry", "죄송", "미안하지만", "유감이지만")


def _check_operations(weights: dict[str, float]) -> dict[str, float]:
    for name, weight in weights.items():
        if name not in OPERATIONS:
            raise ValueError(f"no operation {name!r}; there are {', '.join(OPERATIONS)}")
        if not 0 <= weight < float("inf"):
            raise ValueError(f"{name}: a weight is 0 or more, not {weight}")
    return weights


class CustomOperation(BaseModel):
    """An operation of the caller's own: what the teacher is told to do, in the prompt of its kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    text: str = Field(min_length=10, max_length=2000, description="What the teacher is told to do, as it stands.")
    kind: OperationKind = Field(description="depth: a harder version of its parent. breadth: another, rarer task.")
    weight: float = Field(default=1.0, ge=0, allow_inf_nan=False, description="Beside those of the other operations.")

    @field_validator("name")
    @classmethod
    def is_a_new_name(cls, name: str) -> str:
        """Refuse the name of a built-in operation, since rows name their operation."""
        if name in OPERATIONS:
            raise ValueError(f"{name!r} is a built-in operation; choose another name")
        return name

    @field_validator("text")
    @classmethod
    def is_not_blank(cls, text: str) -> str:
        """Refuse a text that is too short without its outer white space, and return it trimmed."""
        if len(text.strip()) < 10:
            raise ValueError("say in at least 10 characters what the teacher is to do")
        return text.strip()


class Options(MethodOptions):
    """What a caller may set. The defaults are the paper's where it names them."""

    prompt_names: ClassVar[tuple[str, ...]] = (
        "evol_depth",
        "evol_breadth",
        "evol_equal",
        "answer",
    )

    parents: ParentFilter = Field(default=ParentFilter(), description="The records that lineages begin with.")
    rounds: int = Field(default=4, ge=1, le=10, description="Rewrites of one lineage, each from the last survivor.")
    operations: Annotated[dict[str, float], AfterValidator(_check_operations)] = Field(
        default=WEIGHTS, description="Weights of the operations; one that is not named is not used."
    )
    custom_operations: tuple[CustomOperation, ...] = Field(
        default=(), max_length=20, description="Operations of your own, beside the built-in ones."
    )
    survival: Literal["elimination", "selection"] = Field(
        default="elimination", description="One child a round that may fail, or the best of several."
    )
    children: int = Field(default=2, ge=2, le=8, description="Rewrites a round of which selection keeps the best.")
    judge_equal: bool = Field(default=True, description="Ask whether a child is new in kind; about half may fail.")
    answer: bool = Field(default=True, description="Answer each child; without it rows have no output.")
    short_refusal: int = Field(default=80, ge=0, description="An apology under so many words eliminates the child.")
    pairs: bool = Field(default=True, description="Keep the parent's answer as the worse one to the child's.")
    temperature: float = Field(default=1.0, ge=0, le=2, description="Of rewriting.")
    top_p: float | None = Field(default=0.95, gt=0, le=1, description="Of rewriting.")
    answer_temperature: float = Field(default=0.7, ge=0, le=2, description="Of answering.")
    rewrite_tokens: int = Field(default=1024, ge=64, le=8192, description="Most tokens of a rewriting.")
    answer_tokens: int = Field(default=2048, ge=64, le=8192, description="Most tokens of an answer.")

    @model_validator(mode="after")
    def has_operations(self) -> "Options":
        """Check that names are unique, and that at least one operation can be drawn."""
        names = [operation.name for operation in self.custom_operations]
        if len(set(names)) < len(names):
            raise ValueError("custom_operations: each name once")
        if not any(self.weights.values()):
            raise ValueError("operations: at least one operation needs a weight above 0")
        return self

    @property
    def weights(self) -> dict[str, float]:
        """The weights of all operations by name, the caller's own among them."""
        return self.operations | {operation.name: operation.weight for operation in self.custom_operations}

    def custom(self, operation: str) -> CustomOperation | None:
        """Return the caller's operation of this name, or None for a built-in one."""
        return next((candidate for candidate in self.custom_operations if candidate.name == operation), None)

    def kind_of(self, operation: str) -> OperationKind:
        """Return whether the operation evolves in depth or in breadth."""
        custom = self.custom(operation)
        return OPERATIONS[operation] if custom is None else custom.kind

    def with_single_operation(self, operation: str) -> "Options":
        """Return the same options with this operation only, and a single round."""
        custom = tuple(candidate for candidate in self.custom_operations if candidate.name == operation)
        weights = {} if custom else {operation: 1.0}
        return self.model_copy(update={"operations": weights, "custom_operations": custom, "rounds": 1})

    def rules_for(self, language: str) -> tuple[Rule, ...]:
        """Return rules of form with a higher limit by default, since evolved instructions are long and hold data."""
        return PRESETS["form-long"] if self.rules is None else super().rules_for(language)


class Rewritten(BaseModel):
    """The reply with an evolved instruction."""

    instruction: StrictStr
    input: StrictStr = ""


class Equality(BaseModel):
    """The judge's verdict on whether a child demands the same as its parent."""

    equal: StrictBool


@dataclass(frozen=True)
class _Node:
    """The last survivor of a lineage: an id or a candidate's name, its text, and what it may resemble."""

    id: str
    instruction: str
    input: str
    output: str
    ancestors: tuple[str, ...]
    depth: int


async def propose(batch: Batch, ask: Ask, prefilter: Prefilter) -> Proposal:
    """Evolve one lineage for each parent of the batch, all at the same time."""
    lineages = await gather_until_budget(
        _lineage(batch, parent, n, ask, prefilter) for n, parent in enumerate(batch.parents)
    )
    return Proposal(tuple(row for lineage in lineages for row in lineage))


async def _lineage(batch: Batch, parent: Parent, position: int, ask: Ask, prefilter: Prefilter) -> list[Candidate]:
    # A generator for each lineage: they run at the same time, and a shared one would depend on who comes first.
    rng = random.Random(f"{batch.seed}/{position}")
    node = _Node(parent.id, parent.instruction, parent.input, parent.output, parent.ancestors, parent.round)
    rows: list[Candidate] = []
    for round in range(1, batch.options.rounds + 1):
        try:
            children = await _round(batch, node, f"{position}-{round}", rng, ask, prefilter)
        except CallsEnded:
            # The rows of the rounds before this one are complete and paid for, so they are offered.
            if not rows:
                raise
            break
        rows += children
        survivor = next((row for row in children if row.rejection is None), None)
        if survivor is not None:
            ancestors = (*node.ancestors, node.id)
            node = _Node(
                survivor.name, survivor.instruction, survivor.input, survivor.output, ancestors, survivor.round
            )
    return rows


async def _round(
    batch: Batch, node: _Node, position: str, rng: random.Random, ask: Ask, prefilter: Prefilter
) -> list[Candidate]:
    """Return the children of one round; at most one of them has no rejection."""
    options: Options = batch.options
    child_count = options.children if options.survival == "selection" else 1
    operations = draw_operations(options.weights, child_count, rng)
    children = await gather_all(
        reject_on_failure(
            _draft(options, node, f"{position}-{n}", operation),
            _child(batch, node, f"{position}-{n}", operation, ask, prefilter),
        )
        for n, operation in enumerate(operations)
    )
    if options.survival == "selection":
        children = _select(children)
    return await gather_all(reject_on_failure(row, _answer_child(batch, node, row, ask)) for row in children)


def draw_operations(weights: Mapping[str, float], count: int, rng: random.Random) -> list[str]:
    """Draw the operations of siblings by weight, each once before any comes a second time.

    Siblings by the same operation would often be the same text, and selection would choose among copies.
    """
    drawn: list[str] = []
    remaining = dict(weights)
    while len(drawn) < count:
        (operation,) = rng.choices(list(remaining), list(remaining.values()))
        drawn.append(operation)
        del remaining[operation]
        if not any(remaining.values()):
            remaining = dict(weights)
    return drawn


def _draft(options: Options, node: _Node, position: str, operation: str) -> Candidate:
    return Candidate(
        "",
        name=f"child-{position}",
        operation=operation,
        round=node.depth + 1,
        parents=(node.id,),
        resembles=(*node.ancestors, node.id) if options.kind_of(operation) == "depth" else (),
    )


async def _child(batch: Batch, node: _Node, position: str, operation: str, ask: Ask, prefilter: Prefilter) -> Candidate:
    """Return a rewritten instruction, checked as far as it goes without its answer; the cheapest checks come first."""
    options: Options = batch.options
    child = _draft(options, node, position, operation)
    prompt = _rewrite_prompt(batch, node, position, operation)
    reply = await ask(prompt)
    child, rewritten = child.after(prompt, reply), read_object(reply, Rewritten)
    if isinstance(rewritten, Rejection):
        return replace(child, rejection=rewritten)
    child = replace(child, instruction=clean(rewritten.instruction), input=clean(rewritten.input))
    fault = _form_rejection(batch, node, child) or await prefilter(child)
    if fault is not None:
        return replace(child, rejection=fault)
    if options.judge_equal:
        child = await _judge_equal(batch, node, child, position, ask)
    if child.rejection is None and (options.judging.question or options.survival == "selection"):
        child = await judge_question(batch, child, position, ask)
    return child


def _rewrite_prompt(batch: Batch, node: _Node, position: str, operation: str) -> Prompt:
    options: Options = batch.options
    custom = options.custom(operation)
    return prompt_for(
        batch,
        f"evol_{options.kind_of(operation)}",
        f"evolve-{position}",
        {
            "operation": wording(operation, batch.language) if custom is None else custom.text,
            "instruction": node.instruction,
            "input": node.input,
            "language": language_name(batch.language),
        },
        object_schema("rewritten", {"instruction": TEXT, "input": TEXT}),
        step="evolve",
        temperature=options.temperature,
        top_p=options.top_p,
        max_tokens=options.rewrite_tokens,
        operation=operation,
        texts_digest="" if custom is None else f"operation:{custom.name}@{digest_of(custom.text)}",
    )


def _form_rejection(batch: Batch, node: _Node, child: Candidate) -> Rejection | None:
    rules = batch.options.rules_for(batch.language)
    broken = check_instruction(child.instruction, rules) or check_row(child, rules, ("input",))
    if broken is not None:
        return broken
    # A teacher that copies the parent costs one call; the judge of equality would cost another.
    before, after = (normalise(f"{text}\n{input}").casefold() for text, input in _texts(node, child))
    if before == after:
        return Rejection("not_evolved", "a copy of its parent")
    leaked = next((phrase for phrase in leaks(batch.language) if phrase in after and phrase not in before), None)
    return Rejection("leaks_prompt", leaked) if leaked else None


def _texts(node: _Node, child: Candidate) -> tuple[tuple[str, str], tuple[str, str]]:
    return (node.instruction, node.input), (child.instruction, child.input)


async def _judge_equal(batch: Batch, node: _Node, child: Candidate, position: str, ask: Ask) -> Candidate:
    """Ask the judge for the paper's first reason to eliminate: the same demands at the same depth and breadth.

    An unreadable verdict eliminates nothing.
    """
    (first, second) = ("\n\n".join(part for part in pair if part) for pair in _texts(node, child))
    prompt = prompt_for(
        batch,
        "evol_equal",
        f"equal-{position}",
        {"first": first, "second": second},
        object_schema("equality", {"equal": YES_NO}),
        temperature=0.0,
        max_tokens=64,
        by="judge",
        operation=child.operation,
    )
    reply = await ask(prompt)
    child, verdict = child.after(prompt, reply), read_object(reply, Equality)
    if isinstance(verdict, Rejection):
        return child.with_unknown_verdict("equality")
    child = replace(child, scores={**child.scores, "judge.equal": float(verdict.equal)})
    return child.reject("not_evolved", "equal in the judge's eyes") if verdict.equal else child


def _select(children: Sequence[Candidate]) -> list[Candidate]:
    """Return the best of a round's children by difficulty and clarity; the others are rejected."""
    values = [_value(child) if child.rejection is None else -1.0 for child in children]
    best = max(range(len(children)), key=lambda n: (values[n], -n))
    return [
        child if n == best or child.rejection is not None else child.reject("not_selected", values[n], values[best])
        for n, child in enumerate(children)
    ]


def _value(child: Candidate) -> float:
    return child.scores.get("judge.difficulty", 0.0) + child.scores.get("judge.question_clarity", 0.0)


async def _answer_child(batch: Batch, node: _Node, child: Candidate, ask: Ask) -> Candidate:
    options: Options = batch.options
    if child.rejection is not None or not options.answer:
        return child
    position = child.name.removeprefix("child-")
    row = await answer(
        batch, child, position, ask, temperature=options.answer_temperature, max_tokens=options.answer_tokens
    )
    if row.rejection is None:
        row = replace(row, rejection=answer_rejection(row.output, batch.language, options.short_refusal))
    if row.rejection is None:
        row = await finish(batch, row, position, ask)
    return _add_pair(batch, node, row) if options.pairs else row


def answer_rejection(output: str, language: str, short_refusal: int) -> Rejection | None:
    """Return the rejection by the paper's second and third reason to eliminate (Xu et al. 2023, section 3.2).

    Args:
        output: the answer.
        language: the BCP-47 tag of the dataset, for the stop words.
        short_refusal: an answer with an apology and fewer words than this is a refusal; 80 in the paper.
    """
    word_count = count_words(output)
    if word_count < short_refusal and any(word in output.casefold() for word in _APOLOGIES):
        return Rejection("hard_to_answer", word_count, short_refusal)
    return Rejection("only_stop_words") if only_stop_words(output, language) else None


def _add_pair(batch: Batch, node: _Node, row: Candidate) -> Candidate:
    """Add a preference pair with the parent's answer, which does not meet the child's demands and costs no call."""
    if row.rejection is not None or not node.output or batch.options.kind_of(row.operation) == "breadth":
        return row
    if normalise(node.output) == normalise(row.output):
        return row
    # Rule scores cost no call, and a pair whose better answer does not score higher would teach the opposite.
    worse = rule_mean(replace(row, output=node.output), batch.language)
    margin = round(rule_mean(row, batch.language) - worse, 4)
    pair = Pair("evolution", row.output, node.output, margin)
    return replace(row, pairs=(pair,)) if margin > 0 else row


METHOD = Method(
    name="evol_instruct",
    summary="Instructions rewritten round after round, deeper or rarer, and answered.",
    options=Options,
    make=propose,
    draws_from=lambda options: "records",
    batch_size=lambda options: 4,
    candidates=lambda options: options.rounds * (options.children if options.survival == "selection" else 1),
    min_steps=lambda options: 1 + options.judge_equal + options.answer,
    variants=lambda options: [
        options.with_single_operation(name) for name, weight in options.weights.items() if weight
    ],
)
