"""A time slice of a run: the work of one wake-up, for half a minute, or ten times as long while no other run waits.

A slice claims batches, processes them at the same time, and notifies the next slice at its end. So runs share the
workers, and a worker that is lost costs no more than the calls in flight (docs/adr/0015).
"""

import asyncio
import logging
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
from app.runs import service, store
from app.runs.worker import batch, batch_errors, planning
from app.runs.worker.batch_limit import BatchLimit
from app.runs.worker.encoding import AsyncEncoder
from app.runs.worker.micro_batcher import MicroBatcher
from app.synth.types import Encoder
from app.tables.runs import Run

log = logging.getLogger(__name__)

# How often the run's row is read: a pause, a cancel or a ceiling takes effect after this time at most.
STATE_SECONDS = 1.0
# Batches that end within this time of each other are replaced in one transaction: each one locks the run's row.
REPLACE_WITHIN_SECONDS = 0.2
# Calls in flight are paid for, so a run that ends by itself waits for them. The user who cancels waits for nothing.
GRACE_SECONDS = {"stopping": 15.0, "cancelling": 1.0}
# After the grace period and the end of the calls: how long batches may take to admit the rows that they have finished.
ADMIT_SECONDS = {"stopping": 10.0, "cancelling": 2.0}
# The threads of a slice, for the database and the encoder. Calls of teachers use no thread.
THREADS = 16
# The maximum of batches that start together. A hundred batches at the same step would get their replies at the same
# time, and all of them would wait for the encoder.
CLAIMS_AT_ONCE = 16
# A new slice needs seconds until it has as many calls in flight as its predecessor. A slice whose process has no
# other run therefore lasts this many times longer.
SOLE_RUN_FACTOR = 10


@dataclass(frozen=True)
class Tools:
    """What the time slices of one worker process share.

    Attributes:
        pools: the cached pools, which load the encoders.
        teacher: opens the connection to a configured teacher, by its name.
        shutdown: set when the process is about to end.
        active_slices: by run id, the slice of this process that starts new batches.
        calls_per_permit: by run id, the number that `BatchLimit` adjusts. It is kept between slices, so that the next
            slice of the run starts with the number that the previous one has reached.
        retry: how failed calls are tried again.
    """

    pools: Pools
    teacher: Callable[[str], Teacher]
    shutdown: threading.Event
    active_slices: dict[str, "_TimeSlice"] = field(default_factory=dict)
    calls_per_permit: dict[str, float] = field(default_factory=dict)
    retry: RetryPolicy = RetryPolicy()


def run_slice(run_id: str, tools: Tools, in_turn: bool = False) -> None:
    """Work on a run for a time slice, and notify the next slice. A wake-up without work returns at once.

    A slice that finds nothing to claim sends no wake-up: other workers hold the batches, or the sweeper notifies when
    they are due.

    Args:
        run_id: the run. One that was deleted or has ended is no error.
        tools: what the slices of this process share.
        in_turn: the caller works on one run after another, so other runs may wait although this process has no slice
            of them. The slice then has the normal length.
    """
    # A second slice of the run in this process would compete with the first for the interpreter and the run's row.
    if run_id in tools.active_slices:
        return
    with transaction() as session:
        run = session.get(Run, run_id)
        if run is None or run.ended:
            return
        dataset = dataset_store.load_dataset(session, run.dataset_id)
    # Nothing is claimed yet, since loading the encoder and the pool may take longer than a lease. A queued run starts.
    if planning.plan_and_claim(run_id, 0).takes_calls:
        encoder = _prepare(run_id, dataset, tools.pools)
        if encoder is not None:
            current = _TimeSlice(run, dataset, tools, encoder, in_turn)
            # Preparing took a while, and another thread may have started a slice of the run meanwhile.
            if tools.active_slices.setdefault(run_id, current) is not current:
                return
            try:
                asyncio.run(current.work())
            finally:
                current.stop_claiming()
    # A pause or an end may have been requested, and this slice may have held the last batch of the run.
    with transaction() as session:
        locked_run = store.locked_run(session, run_id)
        # A run that ended during the slice may have been deleted with its dataset since.
        if locked_run is not None:
            service.finalize(session, locked_run)


def _prepare(run_id: str, dataset: DatasetRow, pools: Pools) -> Encoder | None:
    """Load the pool and return the dataset's encoder.

    Returns:
        None when the vectors of this worker's encoder can't be compared with those of the dataset. The run has failed.
    """
    try:
        return pools.prepare(dataset)
    except EncoderMismatch as error:
        with transaction() as session:
            service.fail(session, run_id, "encoder_mismatch", str(error))
    return None


def _cause_of_end(state: planning.RunState) -> str:
    return "cancelling" if state.status == "cancelling" else "stopping"


class _TimeSlice:
    """One slice: the batches of one run that this process works on, from their claims to the end of the time."""

    def __init__(self, run: Run, dataset: DatasetRow, tools: Tools, encoder: Encoder, in_turn: bool = False):
        self.run, self.dataset, self.tools, self.encoder, self.in_turn = run, dataset, tools, encoder, in_turn
        self.tasks: dict[asyncio.Task, Claim] = {}
        self.started_at = time.monotonic()
        self.ending_since: float | None = None
        self.next_is_notified = False

    async def work(self) -> None:
        """Process batches until the time is up, the run takes no calls, or nothing is left to claim."""
        # The default of asyncio depends on the number of cores, but these threads wait and hardly compute.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "slice"))
        teachers = self._teachers()
        writer = LedgerWriter(self.run.account_id)
        open_limiters = {teacher: RateLimiter(teacher.endpoint) for teacher in set(teachers.values())}
        limiters = {role: open_limiters[teacher] for role, teacher in teachers.items()}
        heartbeat = asyncio.create_task(self._heartbeat())
        encoder = AsyncEncoder(self.encoder.encode)
        prefilter_batcher = MicroBatcher(partial(self.tools.pools.prefilter, self.dataset.id))
        pools, admission_lock = self.tools.pools, asyncio.Lock()
        self.context = batch.SliceContext(
            self.run,
            self.dataset,
            teachers,
            limiters,
            writer,
            pools,
            encoder,
            prefilter_batcher,
            admission_lock,
            self.tools.retry,
        )
        self.batch_limit = BatchLimit(self.run, teachers, limiters, self.tools.calls_per_permit)
        try:
            while await self._advance():
                pass
        finally:
            heartbeat.cancel()
            await self._cancel_all()
            await writer.close()
            for teacher, limiter in open_limiters.items():
                await limiter.close()
                await teacher.close()

    def _teachers(self) -> dict[str, Teacher]:
        """Open the teachers, and return them by their roles. Without a judge of its own the run uses its teacher."""
        names = {"teacher": self.run.teacher, "judge": self.run.judge or self.run.teacher}
        teachers = {name: self.tools.teacher(name) for name in set(names.values()) if name is not None}
        return {role: teachers[name] for role, name in names.items() if name is not None}

    async def _advance(self) -> bool:
        """Read the run's state, start new batches, and wait a little. False when the slice has nothing left to do."""
        state = await self._start_batches()
        if not self.tasks:
            if self.run.mode == "batch":
                # All batches of this slice have registered their calls and wait for answers. The task sends the calls
                # to the teacher as a remote batch, once no other worker holds a batch of the run.
                await asyncio.to_thread(queue.notify, queue.REMOTE, self.run.id)
            return False
        if self._grace_is_over(state):
            await self._end_calls(state)
            return False
        await self._wait_for_batches()
        return True

    async def _start_batches(self) -> planning.RunState:
        """Claim as many batches as the limit allows, and start a task for each."""
        max_leased = self.batch_limit.value()
        max_new = min(max_leased - len(self.tasks), CLAIMS_AT_ONCE)
        if self._time_is_up():
            max_new = 0
            await self._notify_next_slice()
        state = await asyncio.to_thread(planning.plan_and_claim, self.run.id, max(0, max_new), max_leased)
        for claim in state.claims:
            self.tasks[asyncio.create_task(batch.process_batch(claim, self.context))] = claim
        if len(self.tasks) >= max_leased and not self._time_is_up():
            self.batch_limit.increase_if_no_call_waits()
        return state

    async def _wait_for_batches(self) -> None:
        # At the end of the slice no batch replaces one that ends, so the slice need not continue after the first.
        return_when = asyncio.ALL_COMPLETED if self._time_is_up() else asyncio.FIRST_COMPLETED
        await asyncio.wait(self.tasks, timeout=STATE_SECONDS, return_when=return_when)
        done, _ = await asyncio.wait(self.tasks, timeout=REPLACE_WITHIN_SECONDS)
        for task in done:
            del self.tasks[task]
            if not task.cancelled() and task.exception():
                # `process_batch` handles the errors of a batch, so an error here is a defect. The other batches go on.
                log.error("a batch of %s raised an unexpected error", self.run.id, exc_info=task.exception())

    def stop_claiming(self) -> None:
        """Let another slice of this process start batches of the run, while this one waits for those that it has."""
        if self.tools.active_slices.get(self.run.id) is self:
            del self.tools.active_slices[self.run.id]

    async def _notify_next_slice(self) -> None:
        """Notify the next slice at the end of the time, without waiting for the last batches of this one.

        The slowest call of the last batches may take minutes, and the teacher would be idle meanwhile.
        """
        self.stop_claiming()
        if not self.next_is_notified and not self.tools.shutdown.is_set():
            self.next_is_notified = True
            await asyncio.to_thread(queue.notify, queue.RUN, self.run.id)

    def _time_is_up(self) -> bool:
        if self.tools.shutdown.is_set() or self.next_is_notified:
            return True
        is_sole_run = not self.in_turn and len(self.tools.active_slices) <= 1
        return time.monotonic() - self.started_at > config.settings().slice_seconds * (
            SOLE_RUN_FACTOR if is_sole_run else 1
        )

    def _grace_is_over(self, state: planning.RunState) -> bool:
        """Whether calls in flight have had their grace period, which depends on why the run ends.

        A pause has no such period: it waits until all of them have ended.
        """
        if state.takes_calls or state.status == "pausing":
            # A run that is resumed is no longer about to end, and its next end has the whole period again.
            self.ending_since = None
            return False
        self.ending_since = self.ending_since or time.monotonic()
        return time.monotonic() - self.ending_since > GRACE_SECONDS[_cause_of_end(state)]

    async def _end_calls(self, state: planning.RunState) -> None:
        """End the calls in flight, and let each batch admit the rows that it has finished: they are paid for."""
        self.context.open_calls.end_all()
        await asyncio.wait(self.tasks, timeout=ADMIT_SECONDS[_cause_of_end(state)])

    async def _cancel_all(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        # A task that is cancelled before its first step has not released its batch.
        await asyncio.to_thread(batch_errors.release_batches, list(self.tasks.values()))

    async def _heartbeat(self) -> None:
        """Extend the leases of all batches in one statement, and cancel batches that another worker has claimed."""
        while True:
            # Three heartbeats may fail before another worker takes the batches.
            await asyncio.sleep(config.settings().lease_seconds / 4)
            claims = dict(self.tasks)
            try:
                extended_ids = await asyncio.to_thread(extend_all, list(claims.values()))
            except Exception as error:
                log.warning("the leases of %d batches were not extended: %s", len(claims), error)
                continue
            for task, claim in claims.items():
                if claim.id not in extended_ids:
                    # The batch has ended, and the cancel does nothing; or it has another owner, and nothing that this
                    # worker writes of it would be accepted.
                    task.cancel()
