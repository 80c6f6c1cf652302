"""The rounds of a growth: batches planned against the current pool, run in parallel, admitted in their order."""

import asyncio
import math
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np

from app.synth.batch_sizes import batch_sizes, expected_yield
from app.synth.decide import InMemoryPool
from app.synth.methods.material import draw_plan, load_plan
from app.synth.methods.registry import METHODS
from app.synth.notebook.call_account import CallAccount
from app.synth.notebook.function_caller import FunctionCaller
from app.synth.notebook.in_memory_material import InMemoryMaterial
from app.synth.novelty.pool import comparison_text
from app.synth.quality.options import MethodOptions
from app.synth.types import Batch, CallsEnded, Candidate, Encode, Proposal, Rejection

# Before any experience: Self-Instruct with a classification call of its own makes about three calls for a proposal.
FIRST_CALLS_PER_PROPOSAL = 3


@dataclass
class Growth:
    """The result of a growth.

    Attributes:
        accepted: accepted rows, in the order of their batches.
        rejected: rejected rows, each with its rejection.
        stop_reason: target_reached, exhausted (no material remains), max_calls, max_tokens, max_usd,
            credentials_refused, quota_exhausted, model_unknown, request_refused, teacher_unavailable, interrupted
            (Ctrl-C), or failed.
        message: details of the stop reason.
        error: the exception of a growth that failed.
        calls: calls that count toward `max_calls`, with a ledger all that it holds.
        tokens: the same of prompts and replies.
        usd: the same in dollars.
        replayed: replies that the ledger had, which were not paid for again.
    """

    accepted: list[Candidate] = field(default_factory=list)
    rejected: list[Candidate] = field(default_factory=list)
    stop_reason: str = ""
    message: str = ""
    error: Exception | None = None
    calls: int = 0
    tokens: int = 0
    usd: Decimal = Decimal(0)
    replayed: int = 0

    def reasons(self) -> dict[str, int]:
        """Return the number of rejected rows by reason, most frequent first."""
        return dict(Counter(row.rejection.reason for row in self.rejected).most_common())


@dataclass
class Growing:
    """The material and the calls of a growth, and its result so far."""

    method: str
    options: MethodOptions
    language: str
    seed: int
    target: int
    parallel: int
    material: InMemoryMaterial
    pool: InMemoryPool
    encode: Encode | None
    caller: FunctionCaller
    account: CallAccount
    progress: Callable[[Growth], None]
    growth: Growth = field(default_factory=Growth)
    cursor: dict[str, Any] = field(default_factory=dict)
    batches: int = 0
    proposals: int = 0
    cancel: Callable[[], object] | None = None

    def run(self) -> Growth:
        """Run until the growth ends: in this thread, or in another one where an event loop already runs in this one."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._run_loop()
        else:
            self._run_in_thread()
        return self.growth

    def _run_loop(self) -> None:
        try:
            asyncio.run(self._work())
        except (KeyboardInterrupt, asyncio.CancelledError):
            self.growth.stop_reason = "interrupted"
        except Exception as error:
            self._fail(error)
        self._count_calls()

    def _run_in_thread(self) -> None:
        # asyncio.run refuses to start in a thread with a running loop, as every notebook has one.
        thread = threading.Thread(target=self._run_loop)
        thread.start()
        try:
            thread.join()
        except KeyboardInterrupt:
            # Ctrl-C reaches this thread alone, so the other one is cancelled and ends with its rows.
            if self.cancel is not None:
                self.cancel()
            thread.join()

    async def _work(self) -> None:
        self.cancel = partial(asyncio.get_running_loop().call_soon_threadsafe, asyncio.current_task().cancel)
        self._stop_if_ended()
        while not self.growth.stop_reason:
            batches = self._plan_round()
            if not batches:
                self.growth.stop_reason = "exhausted"
                break
            # Admitted in the order of the plan and not of arrival, so that the same replies give the same rows.
            outcomes = await asyncio.gather(*(self._propose(*batch) for batch in batches), return_exceptions=True)
            self.material.clear_open_plans()
            for outcome in outcomes:
                if not isinstance(outcome, BaseException):
                    self._admit(outcome)
            # Errors come last, because the rows of the other batches are paid for.
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    self._fail(outcome)
            self._stop_if_ended()

    def _plan_round(self) -> list[tuple[int, Batch]]:
        """Plan up to `parallel` batches, with no more proposals than rows are missing."""
        method, growth, batches = METHODS[self.method], self.growth, []
        accepted = len(growth.accepted)
        rows_per_proposal = expected_yield(accepted, accepted + len(growth.rejected)) * method.candidates(self.options)
        missing = min(self.target - accepted, self._affordable_proposals() * rows_per_proposal)
        for size in batch_sizes(missing, rows_per_proposal, method.batch_size(self.options), self.parallel):
            plan = self._plan(size)
            if plan is None:
                break
            batches.append((self.batches, load_plan(self.material, plan, self.options, self.language)))
            self.batches += 1
        return batches

    def _affordable_proposals(self) -> float:
        """Return how many proposals can likely be finished under `max_calls`, since an unfinished one is wasted.

        The estimate is the mean of calls per proposal so far, replayed calls included, so that a second growth plans
        the same batches.
        """
        limit = self.account.ceilings.max_calls
        if limit is None or not METHODS[self.method].asks_teacher:
            return math.inf
        calls_per_proposal = self.caller.requests / self.proposals if self.proposals else FIRST_CALLS_PER_PROPOSAL
        return max(1, (limit - self.caller.requests) // max(1, calls_per_proposal))

    def _plan(self, size: int) -> dict[str, Any] | None:
        rng = random.Random(f"{self.seed}/{self.batches}")
        plan, self.cursor = draw_plan(
            self.material, self.cursor, self.method, self.options, self.seed, self.batches, size, rng
        )
        if plan is not None:
            self.proposals += plan["proposals"]
            self.material.add_open_plan(plan)
        return plan

    async def _propose(self, number: int, batch: Batch) -> Proposal:
        try:
            return await METHODS[self.method].propose(batch, partial(self.caller.ask, number), self._prefilter)
        except CallsEnded:
            return Proposal()

    async def _prefilter(self, draft: Candidate) -> Rejection | None:
        """Check the instruction lexically before more is paid for. Inputs and answers may not be written yet."""
        if self.pool.scope != "instruction" and not draft.output:
            return None
        return self.pool.index.check_lexical(comparison_text(self.pool.scope, draft), draft.resembles)

    def _admit(self, proposal: Proposal) -> None:
        candidates = proposal.candidates
        vectors = encode_all(
            self.encode, ["" if c.rejection is not None else comparison_text(self.pool.scope, c) for c in candidates]
        )
        decisions = self.pool.admit(candidates, vectors, self.target - len(self.growth.accepted))
        for candidate, vector, decision in zip(candidates, vectors, decisions, strict=True):
            row = replace(
                candidate, parents=decision.parents, resembles=decision.resembles, rejection=decision.rejection
            )
            if row.rejection is None:
                self.growth.accepted.append(row)
                self.material.accept(decision, row, vector)
            else:
                self.growth.rejected.append(row)
        self._count_calls()
        self.progress(self.growth)

    def _stop_if_ended(self) -> None:
        if len(self.growth.accepted) >= self.target:
            self.growth.stop_reason = "target_reached"
        elif self.caller.ended is not None and not self.growth.stop_reason:
            self.growth.stop_reason, self.growth.message = self.caller.ended.stop_reason, str(self.caller.ended)

    def _fail(self, error: BaseException) -> None:
        """Record an error that is no failed call: of the encoder, of `progress`, of the disk, or of this library."""
        if not isinstance(error, Exception):
            raise error
        self.growth.stop_reason, self.growth.error = "failed", error
        self.growth.message = f"{type(error).__name__}: {error}"

    def _count_calls(self) -> None:
        growth, account = self.growth, self.account
        growth.calls, growth.tokens, growth.usd = account.calls, account.tokens, account.usd
        growth.replayed = self.caller.replayed


def encode_all(encode: Encode | None, texts: Sequence[str]) -> list[np.ndarray | None]:
    """Return the unit vector of each text, float32 of shape (dimensions,); None for an empty text.

    Args:
        encode: the encoder, or None: then all vectors are None.
        texts: the texts, of which equal ones are encoded once.
    """
    if encode is None:
        return [None] * len(texts)
    unique = [text for text in dict.fromkeys(texts) if text]
    vectors = dict(zip(unique, encode(unique) if unique else (), strict=True))
    return [vectors.get(text) for text in texts]
