"""A batch from its claim to its commit: proposals outside any transaction, then admission inside one.

A batch is the unit of work of a run: up to so many proposals of its method. It is not the remote batch of a teacher,
and not the micro-batch of an encoder. While teachers are called no transaction is open: a call takes up to minutes, and
would hold locks and a connection so long.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from sqlalchemy import func
from sqlalchemy.orm import Session

from app.calls.caller import RetryPolicy, TeacherCaller
from app.calls.ledger_writer import LedgerWriter
from app.calls.open_calls import OpenCalls
from app.calls.rate_limiter import RateLimiter
from app.calls.unknown_refusals import UnknownRefusals
from app.datasets import admission
from app.datasets.pools import Offer, Pools
from app.datasets.reservations import PrefilterRequest
from app.datasets.rows import DatasetRow
from app.jobs import event_log
from app.jobs.leases import Claim, LeaseLost, lock_claimed_row, release_lease
from app.persistence.db import transaction
from app.providers.teacher import Teacher
from app.runs import sampling, service, store
from app.runs.health import update_health
from app.runs.worker import batch_errors
from app.runs.worker.encoding import AsyncEncoder
from app.runs.worker.micro_batcher import MicroBatcher
from app.runs.worker.refused_fields import store_new_settings
from app.synth.methods.registry import METHODS
from app.synth.novelty.pool import comparison_text
from app.synth.types import Batch, Candidate, Rejection
from app.tables.runs import Batch as BatchRow
from app.tables.runs import Run


@dataclass(frozen=True)
class SliceContext:
    """What all batches of a time slice share.

    Attributes:
        run: the run as it was when the slice began. Its counters and its status are read again under the lock.
        dataset: the dataset as it was then.
        teachers: the open teachers by their roles, `teacher` and `judge`.
        limiters: the rate limiter of each role's teacher.
        ledger_writer: writes the entries of paid calls in groups.
        pools: the cached pools of the process, for admission.
        encoder: computes the vectors that the prefilter and admission compare.
        prefilter_batcher: collects the prefilter requests of all batches, so that one comparison serves many.
        admission_lock: lets one batch after another be admitted. Without it many threads would wait for the pool's
            lock, and none would be left for the encoder.
        retry: how failed calls are tried again.
        refusals: counts refusals without a known reason, to decide whether the prompt or the teacher is the cause.
        open_calls: the calls in flight, which the slice can end without losing the rows that are finished.
    """

    run: Run
    dataset: DatasetRow
    teachers: Mapping[str, Teacher]
    limiters: Mapping[str, RateLimiter]
    ledger_writer: LedgerWriter
    pools: Pools
    encoder: AsyncEncoder
    prefilter_batcher: MicroBatcher[PrefilterRequest, Rejection | None]
    admission_lock: asyncio.Lock
    retry: RetryPolicy = RetryPolicy()
    refusals: UnknownRefusals = field(default_factory=UnknownRefusals)
    open_calls: OpenCalls = field(default_factory=OpenCalls)


async def process_batch(claim: Claim, context: SliceContext) -> None:
    """Process one claimed batch. After every error its row has a status that says whether it is tried again.

    Raises:
        asyncio.CancelledError: The slice has cancelled the batch, which is released before.
    """
    prefilter = PoolPrefilter(claim.id, context)
    try:
        await _propose_and_admit(claim, context, prefilter)
    except asyncio.CancelledError:
        # Shielded: a second cancel must not stop the release, or the batch would stay leased until its lease expires.
        await asyncio.shield(asyncio.to_thread(batch_errors.release_batch, claim))
        raise
    except Exception as error:
        await asyncio.to_thread(batch_errors.handle_error, claim, context.run.id, error)
    finally:
        await asyncio.to_thread(context.pools.release, context.dataset.id, prefilter.reservations)


async def _propose_and_admit(claim: Claim, context: SliceContext, prefilter: "PoolPrefilter") -> None:
    ask = _build_caller(claim, context)
    candidates = await _propose(claim, context, prefilter, ask)
    vectors = await _encode_candidates(candidates, context)
    async with context.admission_lock:
        await asyncio.to_thread(_admit, claim, context, candidates, vectors)
    # A ceiling ends single calls of the batch, and the method returns the rows that were complete. They are paid for,
    # so they are admitted before the run gets its reason to end.
    for error in ask.ended:
        await asyncio.to_thread(batch_errors.stop_at_ceiling, context.run.id, error)


def _build_caller(claim: Claim, context: SliceContext) -> TeacherCaller:
    run = context.run
    return TeacherCaller(
        run.account_id,
        run.id,
        claim,
        context.teachers,
        context.limiters,
        context.ledger_writer,
        deferred=run.mode == "batch",
        retry=context.retry,
        refusals=context.refusals,
        open_calls=context.open_calls,
        store_new_settings=partial(store_new_settings, run.id),
    )


class PoolPrefilter:
    """The `prefilter` of a method: it compares an instruction with the pool before an answer to it is paid for.

    It also reserves the text, so that no two batches of this process pay for the same instruction. `reservations`
    has the ids of the reservations of this batch, which end with the batch.
    """

    def __init__(self, batch_id: str, context: SliceContext):
        self._batch_id, self._context = batch_id, context
        self.reservations: list[str] = []

    async def __call__(self, draft: Candidate) -> Rejection | None:
        """Return the rejection of the draft, or None: then its text is reserved until the batch ends."""
        dataset = self._context.dataset
        if dataset.scope != "instruction" and not draft.output:
            # This scope also compares inputs and answers, which the teacher has not written yet.
            return None
        text = comparison_text(dataset.scope, draft)
        vector = await self._context.encoder.encode(text)
        # Without a name no other candidate can refer to the draft, so any id that is new in the batch will do.
        reservation = self._reservation_id(draft.name or str(len(self.reservations)))
        self.reservations.append(reservation)
        # `resembles` has ids of records, and names of other candidates of this batch, which have no record yet.
        excluding = (*draft.resembles, *map(self._reservation_id, draft.resembles))
        request = PrefilterRequest(reservation, text, vector, excluding)
        return await self._context.prefilter_batcher.submit(request)

    def _reservation_id(self, name: str) -> str:
        return f"{self._batch_id}/{name}"


async def _propose(
    claim: Claim, context: SliceContext, prefilter: PoolPrefilter, ask: TeacherCaller
) -> list[Candidate]:
    batch = await asyncio.to_thread(_load_batch, claim, context)
    proposal = await METHODS[context.run.method].propose(batch, ask, prefilter)
    return list(proposal.candidates)


def _load_batch(claim: Claim, context: SliceContext) -> Batch:
    with transaction() as session:
        row = lock_claimed_row(session, claim)
        return sampling.load_batch(session, context.run, context.dataset, row.plan)


async def _encode_candidates(candidates: list[Candidate], context: SliceContext) -> list[np.ndarray | None]:
    """Return a unit vector for each candidate, None for a candidate without a text.

    Rejected candidates are encoded, too: the API shows their nearest records.
    """
    texts = [comparison_text(context.dataset.scope, candidate) for candidate in candidates]
    vectors = iter(await context.encoder.encode_many([text for text in texts if text]))
    return [next(vectors) if text else None for text in texts]


def _admit(claim: Claim, context: SliceContext, candidates: list[Candidate], vectors: list[np.ndarray | None]) -> None:
    """Admit the candidates, end the batch and count in the run: all in one commit.

    The locks are taken in the order that all transactions keep, so that no two wait for each other: dataset, run,
    batch, account.

    Raises:
        LeaseLost: The batch has another owner, or the run has ended.
    """
    with context.pools.precheck_and_lock(context.dataset.id, candidates, vectors) as offer:
        session = offer.session
        run = store.locked_run(session, context.run.id)
        batch = lock_claimed_row(session, claim)
        if run.ended:
            # A cancel has ended the run and dropped its batches while this one waited for the lock.
            raise LeaseLost(claim.id)
        outcome = _admit_candidates(offer, run, claim, candidates, vectors)
        _count_outcome(run, batch, outcome)
        run.health = update_health(run.health, candidates)
        release_lease(batch)
        # The saturation is computed by a query of the batches, so the counts of this batch must be in the database.
        session.flush()
        if run.pending_stop_reason is None:
            service.set_pending_stop_reason(session, run, _completion_reason(session, run))
        service.pause_if_unusable(session, run)
        counts = {"accepted": run.accepted, "rejected": run.rejected, "target": run.target}
        event_log.emit(session, run, "progress", **counts, batch=batch.number)


def _admit_candidates(
    offer: Offer, run: Run, claim: Claim, candidates: list[Candidate], vectors: list[np.ndarray | None]
) -> admission.Outcome:
    origin = admission.Origin("generated", run.id, claim.id, None, run.method, run.teacher)
    allowed = _count_allowed_candidates(run, candidates)
    missing_rows = run.target - run.accepted
    return admission.admit(
        offer.session, offer.dataset, candidates[:allowed], vectors[:allowed], origin, offer.precheck, missing_rows
    )


def _count_outcome(run: Run, batch: BatchRow, outcome: admission.Outcome) -> None:
    run.accepted += outcome.accepted
    run.rejected += outcome.rejected.total()
    run.rejected_by_reason = dict(Counter(run.rejected_by_reason) + outcome.rejected)
    run.in_flight -= batch.plan["proposals"]
    # The teacher has answered, so the time without an answer, after which a run fails, starts again.
    run.teacher_gone_since = None
    batch.status, batch.accepted, batch.rejected = "done", outcome.accepted, outcome.rejected.total()
    batch.finished_at = func.clock_timestamp()


def _completion_reason(session: Session, run: Run) -> str | None:
    """Return why the run is complete: the target is reached, or few new rows are accepted any more; else None."""
    if run.accepted >= run.target:
        return "target_reached"
    rate = store.recent_acceptance_rate(session, run.id, run.saturation_window)
    return "saturated" if rate is not None and rate < run.saturation_share else None


def _count_allowed_candidates(run: Run, candidates: list[Candidate]) -> int:
    """Return how many of the candidates the ceiling `max_candidates` allows. The others are dropped."""
    if run.max_candidates is None:
        return len(candidates)
    return max(0, run.max_candidates - run.accepted - run.rejected)
