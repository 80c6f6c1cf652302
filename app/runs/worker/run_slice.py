"""A time slice of a run: the work of one wake-up, for half a minute, or for some minutes where no other run waits."""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from app import config
from app.calls.caller import RetryPolicy
from app.calls.ledger_writer import LedgerWriter
from app.calls.rate_limiter import RateLimiter
from app.datasets import store as dataset_store
from app.datasets.pools import EncoderMismatch, Pools
from app.datasets.rows import DatasetRow
from app.jobs import queue
from app.jobs.leases import Claim, extend_all
from app.persistence.db import transaction
from app.providers.teacher import Teacher
from app.runs import sampling, service, store
from app.runs.worker import batch, planning
from app.runs.worker.encoding import Encoding
from app.runs.worker.micro_batcher import MicroBatcher
from app.synth.methods.registry import METHODS
from app.synth.types import Encoder
from app.tables.runs import Run

log = logging.getLogger(__name__)

# STATE_SECONDS: how often the run's row is read. After a batch has ended, others that end within
# SETTLING_SECONDS are replaced in the same transaction.
STATE_SECONDS, SETTLING_SECONDS = 1.0, 0.2
GRACE_SECONDS = {"stopping": 15.0, "cancelling": 1.0}
THREADS = 16
BATCHES_WITHOUT_TEACHER = 4
# Calls that batches could have under way, for each call that the teacher takes at once. Batches really have a third
# of them, and fewer when many candidates are rejected early: while no call waits for a permit, the number grows.
CALLS_PER_PERMIT, CALLS_STEP, MAX_CALLS_PER_PERMIT = 5, 0.5, 10
# Batches begin in groups, so that they are at different steps: a hundred replies at once would wait for the encoder.
CLAIMS_AT_ONCE = 16
# A new slice needs seconds until it has as many calls in flight as its predecessor. A slice whose process has no
# other run therefore lasts this many times longer.
ALONE_FACTOR = 10


@dataclass(frozen=True)
class Tools:
    """What a worker process brings: the pools with their encoder, teachers by name, and its own end.

    `active_slices`: by run, the slice of this process that starts new batches. `calls_per_permit`: by run, the calls
    that batches could have under way for each call that the teacher takes at once.
    """

    pools: Pools
    teacher: Callable[[str], Teacher]
    shutdown: threading.Event
    active_slices: dict[str, "_Slice"] = field(default_factory=dict)
    calls_per_permit: dict[str, float] = field(default_factory=dict)
    retry: RetryPolicy = RetryPolicy()


def run_slice(run_id: str, tools: Tools, in_turn: bool = False) -> None:
    """Work on a run for a time slice, and notify the next slice. A wake-up without work returns at once.

    `in_turn`: the caller works on one run after another, so that others may wait for this one unseen.

    A slice that finds nothing to claim sends no wake-up: other workers hold the batches, or the sweeper notifies when
    they are due. A second slice of the run in this process would only compete with the first.
    """
    if run_id in tools.active_slices:
        return
    with transaction() as session:
        run = session.get(Run, run_id)
        if run is None or run.ended:
            return
        dataset = dataset_store.load_dataset(session, run.dataset_id)
    if planning.plan_and_claim(run_id, 0).takes_calls:
        encoder = _prepare(run_id, dataset, tools.pools)
        if encoder is not None:
            current = _Slice(run, dataset, tools, encoder, in_turn)
            if tools.active_slices.setdefault(run_id, current) is not current:
                return
            try:
                asyncio.run(current.work())
            finally:
                current.leave()
    with transaction() as session:
        service.finalize(session, store.locked_run(session, run_id))


def _prepare(run_id: str, dataset: DatasetRow, pools: Pools) -> Encoder | None:
    """The dataset's encoder, its pool loaded; None when they don't fit together, which ends the run."""
    try:
        return pools.prepare(dataset)
    except EncoderMismatch as error:
        with transaction() as session:
            service.fail(session, run_id, "encoder_mismatch", str(error))
    return None


class _Slice:
    def __init__(self, run: Run, dataset: DatasetRow, tools: Tools, encoder: Encoder, in_turn: bool = False):
        self.run, self.dataset, self.tools, self.encoder, self.in_turn = run, dataset, tools, encoder, in_turn
        self.tasks: dict[asyncio.Task, Claim] = {}
        self.started = self.limit_raised_at = time.monotonic()
        self.ending_since: float | None = None
        self.handed_on = False

    async def work(self) -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "slice"))
        teachers = self._teachers()
        writer = LedgerWriter(self.run.account_id)
        open_limiters = {teacher: RateLimiter(teacher.endpoint) for teacher in set(teachers.values())}
        limiters = {role: open_limiters[teacher] for role, teacher in teachers.items()}
        heartbeat = asyncio.create_task(self._heartbeat())
        encoding = Encoding(self.encoder.encode)
        prefilters = MicroBatcher(partial(self.tools.pools.screen, self.dataset.id))
        pools, admission_lock = self.tools.pools, asyncio.Lock()
        self.batch = batch.SliceContext(
            self.run,
            self.dataset,
            teachers,
            limiters,
            writer,
            pools,
            encoding,
            prefilters,
            admission_lock,
            self.tools.retry,
        )
        try:
            while await self._turn():
                pass
        finally:
            heartbeat.cancel()
            await self._cancel_all()
            await writer.close()
            for teacher, limiter in open_limiters.items():
                await limiter.close()
                await teacher.close()

    def _teachers(self) -> dict[str, Teacher]:
        """Who answers the prompts: the judge is the teacher, unless another one was named."""
        names = {"teacher": self.run.teacher, "judge": self.run.judge or self.run.teacher}
        teachers = {name: self.tools.teacher(name) for name in set(names.values()) if name is not None}
        return {role: teachers[name] for role, name in names.items() if name is not None}

    async def _turn(self) -> bool:
        """Read the state, start new batches, wait a little. False when there is nothing left to do."""
        max_live = self._max_batches()
        max_new = min(max_live - len(self.tasks), CLAIMS_AT_ONCE)
        if self._time_is_up():
            max_new = 0
            await self._hand_on()
        state = await asyncio.to_thread(planning.plan_and_claim, self.run.id, max(0, max_new), max_live)
        for claim in state.claims:
            self.tasks[asyncio.create_task(batch.work_off(claim, self.batch))] = claim
        if len(self.tasks) >= max_live and not self._time_is_up():
            self._raise_batch_limit()
        if not self.tasks:
            if self.run.mode == "batch":
                await asyncio.to_thread(queue.notify, queue.REMOTE, self.run.id)
            return False
        if self._grace_is_over(state):
            return False
        # At the end of the slice no new batch is started, so the first that ends need not be handled at once.
        first = asyncio.ALL_COMPLETED if self._time_is_up() else asyncio.FIRST_COMPLETED
        await asyncio.wait(self.tasks, timeout=STATE_SECONDS, return_when=first)
        done, _ = await asyncio.wait(self.tasks, timeout=SETTLING_SECONDS)
        for task in done:
            del self.tasks[task]
            if not task.cancelled() and task.exception():
                log.error("a batch of %s ended badly", self.run.id, exc_info=task.exception())
        return True

    def _max_batches(self) -> int:
        """How many batches may run at once, so that calls always wait for permits.

        A batch has one call under way at its beginning, and at its end waits for its slowest chain.
        """
        if self.run.mode == "batch":
            # Batches only register their calls: all that the run may need go on at once.
            return planning.MAX_BATCHES
        teacher = self.batch.teachers.get("teacher") or self.batch.teachers.get("judge")
        if teacher is None:
            return BATCHES_WITHOUT_TEACHER
        per_batch = METHODS[self.run.method].batch_size(sampling.options_of(self.run))
        calls_per_permit = self.tools.calls_per_permit.get(self.run.id, CALLS_PER_PERMIT)
        return max(2, math.ceil(teacher.endpoint.in_flight * calls_per_permit / per_batch))

    def _raise_batch_limit(self) -> None:
        """Allow more batches when all allowed ones run and still no call waits for a permit."""
        if any(limiter.waiting for limiter in self.batch.limiters.values()):
            return
        # The batches that were added last need a while until their calls wait for permits.
        if time.monotonic() - self.limit_raised_at > STATE_SECONDS:
            self.limit_raised_at = time.monotonic()
            current = self.tools.calls_per_permit.get(self.run.id, CALLS_PER_PERMIT)
            self.tools.calls_per_permit[self.run.id] = min(MAX_CALLS_PER_PERMIT, current + CALLS_STEP)

    def leave(self) -> None:
        """This slice takes on no new batches: another one may."""
        if self.tools.active_slices.get(self.run.id) is self:
            del self.tools.active_slices[self.run.id]

    async def _hand_on(self) -> None:
        """Notify the next slice at the end of the time, without waiting for the last batches of this one."""
        self.leave()
        if not self.handed_on and not self.tools.shutdown.is_set():
            self.handed_on = True
            await asyncio.to_thread(queue.notify, queue.RUN, self.run.id)

    def _time_is_up(self) -> bool:
        if self.tools.shutdown.is_set() or self.handed_on:
            return True
        is_only_slice = not self.in_turn and len(self.tools.active_slices) <= 1
        return time.monotonic() - self.started > config.settings().slice_seconds * (
            ALONE_FACTOR if is_only_slice else 1
        )

    def _grace_is_over(self, state: planning.RunState) -> bool:
        """Whether calls in flight have had their grace period, which depends on why the run ends; a pause has none."""
        if state.takes_calls or state.status == "pausing":
            # A run that was paused and goes on is no longer about to end.
            self.ending_since = None
            return False
        self.ending_since = self.ending_since or time.monotonic()
        cause = "cancelling" if state.status == "cancelling" else "stopping"
        return time.monotonic() - self.ending_since > GRACE_SECONDS[cause]

    async def _cancel_all(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        # A task that is cancelled before its first step never gave its batch back.
        await asyncio.to_thread(batch.give_back_all, list(self.tasks.values()))

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(config.settings().lease_seconds / 4)
            claims = dict(self.tasks)
            try:
                extended_ids = await asyncio.to_thread(extend_all, list(claims.values()))
            except Exception as error:
                log.warning("the leases of %d batches were not extended: %s", len(claims), error)
                continue
            for task, claim in claims.items():
                if claim.id not in extended_ids:
                    # Done, or another's. Cancelling what is done does nothing.
                    task.cancel()
