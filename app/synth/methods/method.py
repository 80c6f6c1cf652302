"""A method as one object: all that the rest of the service has to ask about a way of making data.

Each method's module ends with `METHOD = Method(...)`; `app.synth.methods.registry` collects them.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from app.synth.quality.options import MethodOptions
from app.synth.types import Ask, Batch, CallFailed, Candidate, Prefilter, Proposal

Draw = Literal["seeds", "records", "labelled", "passages", "nothing"]
Propose = Callable[[Batch, Ask, Prefilter], Awaitable[Proposal]]


def _no_conditioning(options: MethodOptions, size: int, number: int) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Method:
    """What a method owns. The callables take the method's own options, validated.

    `draws_from`: the material that a batch starts from. `batch_size`: proposals in a batch. `candidates`: rows that
    a proposal makes at most. `min_steps`: calls that a row waits for one after another, at least, without the
    judging that all methods share. `answers_once`: a record is drawn once, and not again when an accepted row of
    this method grew from it. `share_of`: the share of the dataset that a run is to fill, in the place of a target.
    `conditioning`: what batch `number`, of `size` proposals, is told to turn to, for a method that draws from
    nothing. `other_material`: what a caller may give where the dataset has no material. `variants`: options that
    bring out every request that these options can make. `sample_values`: values of a reply, by the name of the
    field, that a preview can't invent; `text` is a plain reply.
    """

    name: str
    summary: str
    options: type[MethodOptions]
    make: Propose
    draws_from: Callable[[Any], Draw]
    batch_size: Callable[[Any], int]
    candidates: Callable[[Any], int]
    min_steps: Callable[[Any], int]
    asks_teacher: bool = True
    answers_once: bool = False
    share_of: Callable[[Any], float | None] = lambda options: None
    conditioning: Callable[[Any, int, int], dict[str, Any]] = _no_conditioning
    other_material: str = ""
    variants: Callable[[Any], Sequence[MethodOptions]] = lambda options: (options,)
    sample_values: Callable[[Batch], dict[str, Any]] = lambda batch: {}

    async def propose(self, batch: Batch, ask: Ask, prefilter: Prefilter) -> Proposal:
        """The candidates of a batch. Each carries the digests of what the caller's options brought in."""
        try:
            proposal = await self.make(batch, ask, prefilter)
        except CallFailed as error:
            # The batch's first call: nothing was proposed yet.
            return Proposal((Candidate("").reject(error.reason, str(error)),))
        digests = batch.options.digests()
        return Proposal(tuple(_with_digests(row, digests) for row in proposal.candidates)) if digests else proposal


def _with_digests(row: Candidate, digests: tuple[str, ...]) -> Candidate:
    return replace(row, templates=(*row.templates, *digests))
