"""One batch from claim to commit: proposals outside any transaction, then admission inside one."""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import func
from sqlalchemy.orm import Session

from app.calls import ledger
from app.calls.caller import RetryPolicy, TeacherCaller, TeacherUnavailable
from app.calls.circuit_breaker import TeacherAway
from app.calls.ledger_writer import LedgerWriter
from app.calls.rate_limiter import RateLimiter
from app.calls.unknown_refusals import UnknownRefusals
from app.datasets import admission
from app.datasets.pools import Draft, Pools
from app.datasets.rows import DatasetRow
from app.jobs import event_log
from app.jobs.leases import Claim, LeaseLost, fenced, in_seconds, release
from app.persistence.db import transaction
from app.providers.teacher import Teacher
from app.runs import sampling, service, store
from app.runs.worker.encoding import Encoding
from app.runs.worker.micro_batcher import MicroBatcher
from app.synth.methods.registry import METHODS
from app.synth.novelty.pool import comparison_text
from app.synth.teacher_errors import TeacherRefused
from app.synth.types import Batch, CallsEnded, Candidate, Rejection
from app.tables.runs import Run

log = logging.getLogger(__name__)

MAX_ATTEMPTS, MAX_FAILED_BATCHES = 5, 10
WAIT_SECONDS_AFTER_FAILURE = 10


@dataclass(frozen=True)
class SliceContext:
    """What all batches of a time slice share: the run as it was claimed, its dataset, teachers, ledger and pools."""

    run: Run
    dataset: DatasetRow
    teachers: Mapping[str, Teacher]
    limiters: Mapping[str, RateLimiter]
    ledger_writer: LedgerWriter
    pools: Pools
    encoding: Encoding
    prefilters: MicroBatcher[Draft, Rejection | None]
    # One admission after another: more would wait for the pool's lock, and hold a thread each.
    admission_lock: asyncio.Lock
    retry: RetryPolicy = RetryPolicy()
    refusals: UnknownRefusals = field(default_factory=UnknownRefusals)


async def work_off(claim: Claim, context: SliceContext) -> None:
    """Work off one claimed batch. Whatever happens, its row says afterwards how it stands."""
    run_id = context.run.id
    prefilter = PoolPrefilter(claim.id, context)
    try:
        ask = _caller(claim, context)
        candidates = await _propose(claim, context, prefilter, ask)
        vectors = await _encode(candidates, context)
        async with context.admission_lock:
            await asyncio.to_thread(_admit, claim, context, candidates, vectors)
        for ceiling in ask.ended:
            # The rows that were complete by then are admitted first: they are paid for.
            await asyncio.to_thread(_stop_at_ceiling, run_id, ceiling)
    except LeaseLost:
        log.warning("%s has another owner now; this worker lets go", claim.id)
    except ledger.Stopped:
        await asyncio.to_thread(_give_back, claim)
    except CallsEnded as error:
        await asyncio.to_thread(_stop_at_ceiling, run_id, error)
        await asyncio.to_thread(_give_back, claim)
    except TeacherRefused as error:
        await asyncio.to_thread(_fail_run, run_id, error.stop_reason, str(error))
    except ledger.Deferred:
        await asyncio.to_thread(_defer, claim)
    except TeacherAway as error:
        await asyncio.to_thread(_pause_for_teacher, claim, run_id, str(error), error.seconds)
    except TeacherUnavailable as error:
        await asyncio.to_thread(
            _pause_for_teacher, claim, run_id, str(error), WAIT_SECONDS_AFTER_FAILURE * claim.attempt
        )
    except asyncio.CancelledError:
        await asyncio.shield(asyncio.to_thread(_give_back, claim))
        raise
    except Exception as error:
        log.exception("%s of %s failed", claim.id, run_id)
        await asyncio.to_thread(_record_fault, claim, run_id, error)
    finally:
        await asyncio.to_thread(context.pools.release, context.dataset.id, prefilter.tickets)


def _caller(claim: Claim, context: SliceContext) -> TeacherCaller:
    run = context.run
    limiters, deferred = context.limiters, run.mode == "batch"
    return TeacherCaller(
        run.account_id,
        run.id,
        claim,
        context.teachers,
        limiters,
        context.ledger_writer,
        deferred,
        context.retry,
        refusals=context.refusals,
    )


class PoolPrefilter:
    """The kernel's `prefilter`: compares a draft with the pool and with rows in flight, and reserves its text.

    The tickets name the reservations of this batch, which are released with it.
    """

    def __init__(self, batch_id: str, context: SliceContext):
        self._batch_id, self._context = batch_id, context
        self.tickets: list[str] = []

    async def __call__(self, draft: Candidate) -> Rejection | None:
        dataset = self._context.dataset
        if dataset.scope != "instruction" and not draft.output:
            # This scope compares inputs and answers, too, which are not written yet.
            return None
        text = comparison_text(dataset.scope, draft)
        vector = await self._context.encoding.encode(text)
        ticket = self._ticket(draft.name or str(len(self.tickets)))
        self.tickets.append(ticket)
        excluding = (*draft.resembles, *map(self._ticket, draft.resembles))
        return await self._context.prefilters.submit(Draft(ticket, text, vector, excluding))

    def _ticket(self, name: str) -> str:
        return f"{self._batch_id}/{name}"


async def _propose(
    claim: Claim, context: SliceContext, prefilter: PoolPrefilter, ask: TeacherCaller
) -> list[Candidate]:
    batch = await asyncio.to_thread(_load_batch, claim, context)
    proposal = await METHODS[context.run.method].propose(batch, ask, prefilter)
    return list(proposal.candidates)


def _load_batch(claim: Claim, context: SliceContext) -> Batch:
    with transaction() as session:
        row = fenced(session, claim)
        return sampling.load(session, context.run, context.dataset, row.plan)


async def _encode(candidates: list[Candidate], context: SliceContext) -> list:
    """A vector for each candidate with a text. Rejected ones are encoded, too: their nearest neighbours are stored."""
    texts = [comparison_text(context.dataset.scope, candidate) for candidate in candidates]
    vectors = iter(await context.encoding.encode_many([text for text in texts if text]))
    return [next(vectors) if text else None for text in texts]


def _admit(claim: Claim, context: SliceContext, candidates: list[Candidate], vectors: list) -> None:
    """Admission, the batch's end and the run's counters in one commit. Locks: dataset, run, batch, account."""
    run_id = context.run.id
    with context.pools.offering(context.dataset.id, candidates, vectors) as offer:
        session = offer.session
        run = store.locked_run(session, run_id)
        batch = fenced(session, claim)
        if run.ended:
            raise LeaseLost(claim.id)
        origin = admission.Origin("generated", run_id, claim.id, None, run.method, run.teacher)
        remaining = _remaining_candidates(run, candidates)
        outcome = admission.admit(
            session,
            offer.dataset,
            candidates[:remaining],
            vectors[:remaining],
            origin,
            offer.precheck,
            run.target - run.accepted,
        )
        run.accepted += outcome.accepted
        run.rejected += outcome.rejected.total()
        run.rejected_by_reason = dict(Counter(run.rejected_by_reason) + outcome.rejected)
        run.in_flight -= batch.plan["proposals"]
        run.teacher_gone_since = None
        batch.status, batch.accepted, batch.rejected = "done", outcome.accepted, outcome.rejected.total()
        batch.finished_at = func.clock_timestamp()
        release(batch)
        session.flush()
        if run.pending_stop_reason is None:
            service.set_pending_stop_reason(session, run, _completion_reason(session, run))
        event_log.emit(
            session,
            run,
            "progress",
            accepted=run.accepted,
            rejected=run.rejected,
            target=run.target,
            batch=batch.number,
        )


def _completion_reason(session: Session, run: Run) -> str | None:
    """The reason to stop when the target is reached or the dataset saturated, else None."""
    if run.accepted >= run.target:
        return "target_reached"
    share = store.newest_share(session, run.id, run.saturation_window)
    return "saturated" if share is not None and share < run.saturation_share else None


def _remaining_candidates(run: Run, candidates: list[Candidate]) -> int:
    """How many of the candidates may still be offered under max_candidates."""
    if run.max_candidates is None:
        return len(candidates)
    return max(0, run.max_candidates - run.accepted - run.rejected)


def _give_back(claim: Claim, wait: float = 0, message: str | None = None, failed: bool = False) -> None:
    try:
        with transaction() as session:
            batch = fenced(session, claim)
            batch.status, batch.error = "failed" if failed else "pending", message
            batch.not_before = in_seconds(wait) if wait else None
            if message is None:
                # A pause, a ceiling or the end of a worker is no failure of the batch: the attempt does not count.
                batch.attempt -= 1
            release(batch)
    except LeaseLost:
        log.warning("%s has another owner now; this worker lets go", claim.id)


def give_back_all(claims: Sequence[Claim]) -> None:
    """Give back what is still held of these. Nothing went wrong with them."""
    with transaction() as session:
        store.give_back(session, [(claim.id, claim.token) for claim in claims])


def _stop_at_ceiling(run_id: str, ended: CallsEnded) -> None:
    if isinstance(ended, ledger.CeilingReached):
        with transaction() as session:
            service.stop(session, run_id, ended.name)


def _fail_run(run_id: str, reason: str, message: str) -> None:
    with transaction() as session:
        service.fail(session, run_id, reason, message)


def _pause_for_teacher(claim: Claim, run_id: str, message: str, seconds: float) -> None:
    """The teacher is in trouble: the run waits for it, and this batch with it. It is no fault of the batch."""
    _give_back(claim)
    with transaction() as session:
        service.pause_for_teacher(session, run_id, message, seconds)


def _defer(claim: Claim) -> None:
    """Its calls are registered; it is tried again when their answers are here."""
    try:
        with transaction() as session:
            batch = fenced(session, claim)
            batch.status, batch.attempt = "waiting", batch.attempt - 1
            release(batch)
    except LeaseLost:
        log.warning("%s has another owner now; this worker lets go", claim.id)


def _record_fault(claim: Claim, run_id: str, error: Exception) -> None:
    """A fault of ours or of the database. One batch is not worth a run; many are."""
    message, is_last = f"{type(error).__name__}: {error}"[:1000], claim.attempt >= MAX_ATTEMPTS
    _give_back(claim, wait=WAIT_SECONDS_AFTER_FAILURE, message=message, failed=is_last)
    if not is_last:
        return
    with transaction() as session:
        store.locked_run(session, run_id).in_flight -= store.proposals_of(session, claim.id)
        failed = store.batches_by_status(session, run_id).get("failed", 0)
    if failed >= MAX_FAILED_BATCHES:
        _fail_run(run_id, "too_many_failures", f"{failed} batches failed; the last: {message}")
