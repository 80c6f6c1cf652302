"""One batch from claim to commit: proposals outside any transaction, then admission inside one."""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func
from sqlalchemy.orm import Session

from app.calls import ledger
from app.calls.caller import RetryPolicy, TeacherCaller, TeacherUnavailable
from app.calls.circuit_breaker import TeacherAway
from app.calls.ledger_writer import LedgerWriter
from app.calls.rate_limiter import RateLimiter
from app.datasets import admission
from app.datasets.pools import Draft, Pools
from app.db import transaction
from app.jobs import event_log
from app.jobs.leases import Claim, LeaseLost, fenced, in_seconds, release
from app.providers.teacher import Teacher
from app.runs import sampling, service, store
from app.runs.encoding import Encoding
from app.runs.gathering import Gathering
from app.synth.methods import METHODS
from app.synth.pool import comparison_text
from app.synth.teacher_errors import TeacherRefused
from app.synth.types import Batch, CallsEnded, Candidate, Rejection
from app.tables.datasets import Dataset
from app.tables.runs import Run

log = logging.getLogger(__name__)

MOST_ATTEMPTS, MOST_FAILED_BATCHES = 5, 10
WAIT_AFTER_FAILURE = 10


@dataclass(frozen=True)
class Work:
    """What every batch of a slice needs: the run as it was claimed, its dataset, who answers, the pools."""

    run: Run
    dataset: Dataset
    teachers: Mapping[str, Teacher]
    limiters: Mapping[str, RateLimiter]
    ledger_writer: LedgerWriter
    pools: Pools
    encoding: Encoding
    screens: Gathering[Draft, Rejection | None]
    # One admission after another: more would wait for the pool's lock, and hold a thread each.
    admitting: asyncio.Lock
    retry: RetryPolicy = RetryPolicy()


async def work(claim: Claim, tools: Work) -> None:
    """Work off one claimed batch. Whatever happens, its row says afterwards how it stands."""
    run_id = tools.run.id
    looking = Looking(claim.id, tools)
    try:
        ask = _caller(claim, tools)
        candidates = await _propose(claim, tools, looking, ask)
        vectors = await _encode(candidates, tools)
        async with tools.admitting:
            await asyncio.to_thread(_admit, claim, tools, candidates, vectors)
        for ceiling in ask.ended:
            # The rows that were whole by then are in; now the run ends by its ceiling.
            await asyncio.to_thread(_stop, run_id, ceiling)
    except LeaseLost:
        log.warning("%s has another owner now; this worker lets go", claim.id)
    except ledger.Stopped:
        await asyncio.to_thread(_give_back, claim)
    except CallsEnded as error:
        await asyncio.to_thread(_stop, run_id, error)
        await asyncio.to_thread(_give_back, claim)
    except TeacherRefused as error:
        await asyncio.to_thread(_fail_run, run_id, error.stop_reason, str(error))
    except ledger.Deferred:
        await asyncio.to_thread(_defer, claim)
    except TeacherAway as error:
        await asyncio.to_thread(_pause, claim, run_id, str(error), error.seconds)
    except TeacherUnavailable as error:
        await asyncio.to_thread(_pause, claim, run_id, str(error), WAIT_AFTER_FAILURE * claim.attempt)
    except asyncio.CancelledError:
        await asyncio.shield(asyncio.to_thread(_give_back, claim))
        raise
    except Exception as error:
        log.exception("%s of %s failed", claim.id, run_id)
        await asyncio.to_thread(_broken, claim, run_id, error)
    finally:
        await asyncio.to_thread(tools.pools.release, tools.dataset.id, looking.tickets)


def _caller(claim: Claim, tools: Work) -> TeacherCaller:
    run = tools.run
    limiters, deferred = tools.limiters, run.mode == "batch"
    return TeacherCaller(
        run.account_id, run.id, claim, tools.teachers, limiters, tools.ledger_writer, deferred, tools.retry
    )


class Looking:
    """The kernel's `screen`: a look at the pool and at what is in flight, under tickets of this batch."""

    def __init__(self, batch_id: str, tools: Work):
        self._batch_id, self._tools = batch_id, tools
        self.tickets: list[str] = []

    async def __call__(self, draft: Candidate) -> Rejection | None:
        dataset = self._tools.dataset
        if dataset.scope != "instruction" and not draft.output:
            # Inputs and answers count here, and are not written yet.
            return None
        text = comparison_text(dataset.scope, draft)
        vector = await self._tools.encoding.one(text)
        ticket = self._ticket(draft.name or str(len(self.tickets)))
        self.tickets.append(ticket)
        excluding = (*draft.resembles, *map(self._ticket, draft.resembles))
        return await self._tools.screens.ask(Draft(ticket, text, vector, excluding))

    def _ticket(self, name: str) -> str:
        return f"{self._batch_id}/{name}"


async def _propose(claim: Claim, tools: Work, looking: Looking, ask: TeacherCaller) -> list[Candidate]:
    batch = await asyncio.to_thread(_load, claim, tools)
    proposal = await METHODS[tools.run.method].propose(batch, ask, looking)
    return list(proposal.candidates)


def _load(claim: Claim, tools: Work) -> Batch:
    with transaction() as session:
        row = fenced(session, claim)
        return sampling.load(session, tools.run, tools.dataset, row.plan)


async def _encode(candidates: list[Candidate], tools: Work) -> list:
    """A vector for each that has a text; what is rejected is encoded, too: it has neighbours."""
    texts = [comparison_text(tools.dataset.scope, candidate) for candidate in candidates]
    encoded = iter(await tools.encoding.many([text for text in texts if text]))
    return [next(encoded) if text else None for text in texts]


def _admit(claim: Claim, tools: Work, candidates: list[Candidate], vectors: list) -> None:
    """Admission, the batch's end and the run's counters in one commit. Locks: dataset, run, batch, account."""
    run_id = tools.run.id
    with tools.pools.offering(tools.dataset.id, candidates, vectors) as offer:
        session = offer.session
        run = store.locked_run(session, run_id)
        batch = fenced(session, claim)
        if run.ended:
            raise LeaseLost(claim.id)
        origin = admission.Origin("generated", run_id, claim.id, None, run.method, run.teacher)
        within = _under_ceiling(run, candidates)
        outcome = admission.admit(
            session,
            offer.dataset,
            candidates[:within],
            vectors[:within],
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
        if run.stopping is None:
            service.set_stopping(session, run, _enough(session, run))
        event_log.emit(
            session,
            run,
            "progress",
            accepted=run.accepted,
            rejected=run.rejected,
            target=run.target,
            batch=batch.number,
        )


def _enough(session: Session, run: Run) -> str | None:
    """Why no more rows are wanted, or None."""
    if run.accepted >= run.target:
        return "target_reached"
    share = store.newest_share(session, run.id, run.saturation_window)
    return "saturated" if share is not None and share < run.saturation_share else None


def _under_ceiling(run: Run, candidates: list[Candidate]) -> int:
    """How many of the candidates may still be offered under max_candidates."""
    if run.max_candidates is None:
        return len(candidates)
    return max(0, run.max_candidates - run.accepted - run.rejected)


def _give_back(claim: Claim, wait: float = 0, words: str | None = None, failed: bool = False) -> None:
    try:
        with transaction() as session:
            batch = fenced(session, claim)
            batch.status, batch.error = "failed" if failed else "pending", words
            batch.not_before = in_seconds(wait) if wait else None
            if words is None:
                # Nothing went wrong: a pause, a ceiling, the end of a worker. The attempt does not count.
                batch.attempt -= 1
            release(batch)
    except LeaseLost:
        log.warning("%s has another owner now; this worker lets go", claim.id)


def give_back_all(claims: Sequence[Claim]) -> None:
    """Give back what is still held of these. Nothing went wrong with them."""
    with transaction() as session:
        store.give_back(session, [(claim.id, claim.token) for claim in claims])


def _stop(run_id: str, ended: CallsEnded) -> None:
    if isinstance(ended, ledger.CeilingReached):
        with transaction() as session:
            service.stop(session, run_id, ended.name)


def _fail_run(run_id: str, reason: str, words: str) -> None:
    with transaction() as session:
        service.fail(session, run_id, reason, words)


def _pause(claim: Claim, run_id: str, words: str, seconds: float) -> None:
    """The teacher is in trouble: the run waits for it, and this batch with it. It is no fault of the batch."""
    _give_back(claim)
    with transaction() as session:
        service.pause_for_teacher(session, run_id, words, seconds)


def _defer(claim: Claim) -> None:
    """Its calls are registered; it is tried again when their answers are here."""
    try:
        with transaction() as session:
            batch = fenced(session, claim)
            batch.status, batch.attempt = "waiting", batch.attempt - 1
            release(batch)
    except LeaseLost:
        log.warning("%s has another owner now; this worker lets go", claim.id)


def _broken(claim: Claim, run_id: str, error: Exception) -> None:
    """A fault of ours or of the database. One batch is not worth a run; many are."""
    words, last = f"{type(error).__name__}: {error}"[:1000], claim.attempt >= MOST_ATTEMPTS
    _give_back(claim, wait=WAIT_AFTER_FAILURE, words=words, failed=last)
    if not last:
        return
    with transaction() as session:
        store.locked_run(session, run_id).in_flight -= store.proposals_of(session, claim.id)
        failed = store.batches_by_status(session, run_id).get("failed", 0)
    if failed >= MOST_FAILED_BATCHES:
        _fail_run(run_id, "too_many_failures", f"{failed} batches failed; the last: {words}")
