"""The ways of making data, by name: what each takes, what it draws from, and how it works."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from app.synth import dialogue, documents, evol_instruct, responses, safety, self_instruct, templating
from app.synth.options import MethodOptions
from app.synth.types import Ask, Batch, Proposal, Screen

Draw = Literal["seeds", "records", "labelled", "passages", "nothing"]


@dataclass(frozen=True)
class Method:
    """`draws`: what a batch starts from. `batch_size`: proposals in a batch. `candidates`: rows that one makes."""

    name: str
    summary: str
    options: type[MethodOptions]
    propose: Callable[[Batch, Ask, Screen], Awaitable[Proposal]]
    draws: Callable[[Any], Draw]
    batch_size: Callable[[Any], int]
    candidates: Callable[[Any], int]
    asks_teacher: bool = True


def _evolved(options: evol_instruct.Options) -> int:
    return options.rounds * (options.children if options.survival == "selection" else 1)


_ALL = (
    Method(
        name="self_instruct",
        summary="New instructions from seeds and accepted records, then their inputs and outputs.",
        options=self_instruct.Options,
        propose=self_instruct.propose,
        draws=lambda options: "seeds",
        batch_size=lambda options: options.of_variant("instructions_per_call"),
        candidates=lambda options: options.max_instances if options.variant == "two_stage" else 1,
    ),
    Method(
        name="evol_instruct",
        summary="Instructions rewritten round after round, deeper or rarer, and answered.",
        options=evol_instruct.Options,
        propose=evol_instruct.propose,
        draws=lambda options: "records",
        batch_size=lambda options: 4,
        candidates=_evolved,
    ),
    Method(
        name="responses",
        summary="Answers to instructions that have none, or the best of several answers.",
        options=responses.Options,
        propose=responses.propose,
        draws=lambda options: "records",
        batch_size=lambda options: 8,
        candidates=lambda options: options.answers,
    ),
    Method(
        name="dialogue",
        summary="Conversations of several turns, from records or topics.",
        options=dialogue.Options,
        propose=dialogue.propose,
        draws=lambda options: "nothing" if options.topics else "records",
        batch_size=lambda options: 4,
        candidates=lambda options: 1,
    ),
    Method(
        name="templates",
        summary="Labelled data turned into instruction rows by phrasings of their task; asks no teacher.",
        options=templating.Options,
        propose=templating.propose,
        draws=lambda options: "labelled",
        batch_size=lambda options: 50,
        candidates=lambda options: 1,
        asks_teacher=False,
    ),
    Method(
        name="documents",
        summary="Questions and answers grounded in uploaded text, with the span they rest on.",
        options=documents.Options,
        propose=documents.propose,
        draws=lambda options: "passages",
        batch_size=lambda options: 4,
        candidates=lambda options: options.questions,
    ),
    Method(
        name="safety",
        summary="Harmful requests in general words, politely declined.",
        options=safety.Options,
        propose=safety.propose,
        draws=lambda options: "nothing",
        batch_size=lambda options: options.requests_per_call,
        candidates=lambda options: 1,
    ),
)

METHODS: dict[str, Method] = {method.name: method for method in _ALL}


def focus_of(options: MethodOptions, size: int, number: int) -> dict[str, Any]:
    """What a batch that draws from nothing is told to turn to: the next topics, or the next category."""
    if isinstance(options, dialogue.Options):
        return {"topics": [options.topics[(number * size + n) % len(options.topics)] for n in range(size)]}
    return {"category": options.categories[number % len(options.categories)]}
