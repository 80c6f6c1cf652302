"""A method as one object, with all that the rest of the service needs to know of it.

Each method's module ends with `METHOD = Method(...)`; `app.synth.methods.registry` collects them.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from app.synth.prompting.second_request import with_second_request
from app.synth.quality.options import MethodOptions
from app.synth.types import Ask, Batch, CallFailed, Candidate, Prefilter, Proposal

Draw = Literal["seeds", "records", "labelled", "passages", "nothing"]
Propose = Callable[[Batch, Ask, Prefilter], Awaitable[Proposal]]


def _no_conditioning(options: MethodOptions, size: int, number: int) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Method:
    """A method with its options, its material and its function. The callables take the method's validated options.

    Attributes:
        name: the name in the API.
        summary: a sentence for the list of methods.
        options: the model of its options.
        make: the function of the method, which makes the rows of a batch. Call `propose`, which adds what all methods
            have in common.
        draws_from: the type of material that a batch starts from.
        batch_size: proposals in a batch.
        candidates: the maximum of rows that a proposal makes.
        min_steps: the minimum of calls that a row waits for one after another, without the judging that all methods
            share.
        asks_teacher: whether it makes calls.
        answers_once: whether a record is drawn once, and not again after an accepted row of this method grew from it.
        share_of: the share of the dataset that a run fills, for a run without a target.
        conditioning: what batch `number`, of `size` proposals, asks for, for a method without material.
        other_material: the option that replaces missing material of the dataset.
        variants: options that together make every request that these options can make.
        sample_values: values of a reply by field that a preview can't invent; `text` is a plain reply.
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
        """Make the candidates of a batch. Each carries the digests of the texts in the caller's options.

        Args:
            batch: all that shapes the prompts.
            ask: calls a teacher or a judge.
            prefilter: compares an instruction with the pool before more is paid for it.

        Raises:
            CallsEnded: the calls ended before any row was complete.
        """
        try:
            ask = with_second_request(ask) if batch.options.ask_again else ask
            proposal = await self.make(batch, ask, prefilter)
        except CallFailed as error:
            # The batch's first call: nothing was proposed yet.
            return Proposal((Candidate("").reject(error.reason, str(error)),))
        # Here and not in each method, so that no new method can forget the lineage of its rows.
        digests = batch.options.digests()
        return Proposal(tuple(_with_digests(row, digests) for row in proposal.candidates)) if digests else proposal


def _with_digests(row: Candidate, digests: tuple[str, ...]) -> Candidate:
    return replace(row, templates=(*row.templates, *digests))
