"""A slice of a run: what one ring of the doorbell does, for half a minute, or some minutes where no other run waits."""

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
from app.datasets.pools import EncoderMismatch, Pools
from app.db import transaction
from app.jobs import queue
from app.jobs.leases import Claim, extend_all
from app.providers.teacher import Teacher
from app.runs import batch, planning, sampling, service, store
from app.runs.encoding import Encoding
from app.runs.gathering import Gathering
from app.synth.methods import METHODS
from app.synth.types import Encoder
from app.tables.datasets import Dataset
from app.tables.runs import Run

log = logging.getLogger(__name__)

# After a batch has ended the next ones have so long to end, too, before all of them are followed by new ones.
LOOK_SECONDS, MORE_SECONDS = 1.0, 0.2
GRACE = {"stopping": 15.0, "cancelling": 1.0}
THREADS = 16
BATCHES_WITHOUT_TEACHER = 4
# Calls that batches could have under way, for each that the teacher takes at once: in fact they have a third, and
# fewer when much is turned away early. While nobody waits for leave there is room for more.
BATCHES_FOR_A_CALL, MORE_FOR_A_CALL, MOST_FOR_A_CALL = 5, 0.5, 10
# So that not all are at the same step: a hundred replies at once would all wait for the encoder.
CLAIMS_AT_ONCE = 16
# A new slice takes seconds until it has as many calls in flight as the one before: with no other run here to let pass,
# one goes on for this many times its time.
ALONE_TIMES = 10


@dataclass(frozen=True)
class Tools:
    """What a worker process brings: the pools with their encoder, teachers by name, and its own end.

    `at_work`: the runs that have a slice here which takes on new batches. `for_a_call`: by run, the calls that batches
    could have under way for each that the teacher takes at once.
    """

    pools: Pools
    teacher: Callable[[str], Teacher]
    shutdown: threading.Event
    at_work: dict[str, "_Slice"] = field(default_factory=dict)
    for_a_call: dict[str, float] = field(default_factory=dict)
    retry: RetryPolicy = RetryPolicy()


def work(run_id: str, tools: Tools, in_turn: bool = False) -> None:
    """Work on a run for a slice of time, and hand it on by another ring. A ring for nothing returns at once.

    `in_turn`: the caller works on one run after another, so that others may wait for this one unseen.

    A slice that finds nothing to claim does not ring: others are at work, or the sweeper will know when. A second
    slice of the run in this process would only be in the way of the first.
    """
    if run_id in tools.at_work:
        return
    with transaction() as session:
        run = session.get(Run, run_id)
        if run is None or run.ended:
            return
        dataset = session.get(Dataset, run.dataset_id)
    if planning.look(run_id, 0).takes_calls:
        encoder = _prepare(run_id, dataset, tools.pools)
        if encoder is not None:
            one = _Slice(run, dataset, tools, encoder, in_turn)
            if tools.at_work.setdefault(run_id, one) is not one:
                return
            try:
                asyncio.run(one.work())
            finally:
                one.leave()
    with transaction() as session:
        service.settle(session, store.locked_run(session, run_id))


def _prepare(run_id: str, dataset: Dataset, pools: Pools) -> Encoder | None:
    """The dataset's encoder, its pool loaded; None when they don't fit together, which ends the run."""
    try:
        return pools.prepare(dataset)
    except EncoderMismatch as error:
        with transaction() as session:
            service.fail(session, run_id, "encoder_mismatch", str(error))
    return None


class _Slice:
    def __init__(self, run: Run, dataset: Dataset, tools: Tools, encoder: Encoder, in_turn: bool = False):
        self.run, self.dataset, self.tools, self.encoder, self.in_turn = run, dataset, tools, encoder, in_turn
        self.tasks: dict[asyncio.Task, Claim] = {}
        self.started = self.made_room_at = time.monotonic()
        self.closing_since: float | None = None
        self.handed_on = False

    async def work(self) -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "slice"))
        teachers = self._teachers()
        writer = LedgerWriter(self.run.account_id)
        opened = {teacher: RateLimiter(teacher.endpoint) for teacher in set(teachers.values())}
        limiters = {role: opened[teacher] for role, teacher in teachers.items()}
        beating = asyncio.create_task(self._heartbeat())
        encoding = Encoding(self.encoder.encode)
        screens = Gathering(partial(self.tools.pools.screen, self.dataset.id))
        pools, admitting = self.tools.pools, asyncio.Lock()
        self.batch = batch.Work(
            self.run, self.dataset, teachers, limiters, writer, pools, encoding, screens, admitting, self.tools.retry
        )
        try:
            while await self._turn():
                pass
        finally:
            beating.cancel()
            await self._cancel_all()
            await writer.close()
            for teacher, limiter in opened.items():
                await limiter.close()
                await teacher.close()

    def _teachers(self) -> dict[str, Teacher]:
        """Who answers the prompts: the judge is the teacher, unless another one was named."""
        names = {"teacher": self.run.teacher, "judge": self.run.judge or self.run.teacher}
        opened = {name: self.tools.teacher(name) for name in set(names.values()) if name is not None}
        return {role: opened[name] for role, name in names.items() if name is not None}

    async def _turn(self) -> bool:
        """Look, take on new batches, wait a little. False when there is nothing left to do."""
        most = self._room()
        room = min(most - len(self.tasks), CLAIMS_AT_ONCE)
        if self._over():
            room = 0
            await self._hand_on()
        seen = await asyncio.to_thread(planning.look, self.run.id, max(0, room), most)
        for claim in seen.claims:
            self.tasks[asyncio.create_task(batch.work(claim, self.batch))] = claim
        if len(self.tasks) >= most and not self._over():
            self._make_room()
        if not self.tasks:
            if self.run.mode == "batch":
                await asyncio.to_thread(queue.notify, queue.REMOTE, self.run.id)
            return False
        if self._lost_patience(seen):
            return False
        # While batches only come home, nothing new depends on the first of them.
        first = asyncio.ALL_COMPLETED if self._over() else asyncio.FIRST_COMPLETED
        await asyncio.wait(self.tasks, timeout=LOOK_SECONDS, return_when=first)
        done, _ = await asyncio.wait(self.tasks, timeout=MORE_SECONDS)
        for task in done:
            del self.tasks[task]
            if not task.cancelled() and task.exception():
                log.error("a batch of %s ended badly", self.run.id, exc_info=task.exception())
        return True

    def _room(self) -> int:
        """Batches at once, so that calls always wait for leave: a batch has one call under way at its beginning, and
        at its end waits for its slowest chain."""
        if self.run.mode == "batch":
            # Batches only register their calls: all that the run may need go on at once.
            return planning.MOST_AT_ONCE
        asked = self.batch.teachers.get("teacher") or self.batch.teachers.get("judge")
        if asked is None:
            return BATCHES_WITHOUT_TEACHER
        per_batch = METHODS[self.run.method].batch_size(sampling.options_of(self.run))
        for_a_call = self.tools.for_a_call.get(self.run.id, BATCHES_FOR_A_CALL)
        return max(2, math.ceil(asked.endpoint.in_flight * for_a_call / per_batch))

    def _make_room(self) -> None:
        """All batches that there is room for are under way: if nobody waits for leave all the same, take more."""
        if any(one.waiting for one in self.batch.limiters.values()):
            return
        # Not again before it is seen what the last ones do.
        if time.monotonic() - self.made_room_at > LOOK_SECONDS:
            self.made_room_at = time.monotonic()
            before = self.tools.for_a_call.get(self.run.id, BATCHES_FOR_A_CALL)
            self.tools.for_a_call[self.run.id] = min(MOST_FOR_A_CALL, before + MORE_FOR_A_CALL)

    def leave(self) -> None:
        """This slice takes on no new batches: another one may."""
        if self.tools.at_work.get(self.run.id) is self:
            del self.tools.at_work[self.run.id]

    async def _hand_on(self) -> None:
        """Ring at the end of the slice's time, while its last batches come home: nobody waits for them."""
        self.leave()
        if not self.handed_on and not self.tools.shutdown.is_set():
            self.handed_on = True
            await asyncio.to_thread(queue.notify, queue.RUN, self.run.id)

    def _over(self) -> bool:
        if self.tools.shutdown.is_set() or self.handed_on:
            return True
        alone = not self.in_turn and len(self.tools.at_work) <= 1
        return time.monotonic() - self.started > config.settings().slice_seconds * (ALONE_TIMES if alone else 1)

    def _lost_patience(self, seen: planning.Look) -> bool:
        """Calls in flight may come home, for a while that depends on why we wait; a pause waits for all."""
        if seen.takes_calls or seen.status == "pausing":
            # A run that was paused and goes on is no longer about to end.
            self.closing_since = None
            return False
        self.closing_since = self.closing_since or time.monotonic()
        why = "cancelling" if seen.status == "cancelling" else "stopping"
        return time.monotonic() - self.closing_since > GRACE[why]

    async def _cancel_all(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        # A task that is cancelled before its first step never gave its batch back.
        await asyncio.to_thread(batch.give_back_all, list(self.tasks.values()))

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(config.settings().lease_seconds / 4)
            held = dict(self.tasks)
            try:
                ours = await asyncio.to_thread(extend_all, list(held.values()))
            except Exception as error:
                log.warning("the leases of %d batches were not extended: %s", len(held), error)
                continue
            for task, claim in held.items():
                if claim.id not in ours:
                    # Done, or another's. Cancelling what is done does nothing.
                    task.cancel()
