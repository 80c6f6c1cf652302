"""The job of a judgement: a teacher judges record after record, with many calls in flight, and verdicts are stored.

A record is one unit of idempotence: its calls have the record's id in their position, so that an attempt after a kill
finds what was paid for; and a record whose verdict is stored is not taken again.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from sqlalchemy.exc import OperationalError

from app.calls.caller import RetryPolicy, TeacherCaller, TeacherUnavailable
from app.calls.circuit_breaker import CircuitOpen
from app.calls.ledger_entries import AccountStopped, CeilingReached
from app.calls.ledger_writer import LedgerWriter
from app.calls.rate_limiter import RateLimiter
from app.datasets import records
from app.datasets.rows import RecordRow
from app.jobs.kinds import JobFailed
from app.jobs.leases import lock_claimed_row
from app.jobs.runner import JobCancelled, RunningJob, WorkerStopping
from app.judgements import store
from app.judgements.ending import COMPLETED, PAUSED, TEACHER_UNAVAILABLE, Stop, end
from app.persistence.db import brief_transaction, transaction
from app.providers.teacher import Teacher
from app.synth.quality.judge_records import JudgementOptions, judge_record
from app.synth.teacher_errors import TeacherRefused
from app.synth.types import CallFailed, CallsEnded, Candidate, Rejection, Turn
from app.tables.judgements import Judgement

log = logging.getLogger(__name__)

# For the database: the calls of the teacher use no thread.
THREADS = 4
# A read costs a query over the dataset, and each row is small beside its call.
ROWS_PER_READ = 500
# Rows under way for each call that the teacher allows at once: then a call always waits for its permit.
ROWS_PER_PERMIT = 2
# How often the worker sees a cancel.
CHECK_SECONDS = 0.25
# Verdicts are stored together: each store locks the judgement, and a killed worker loses what it has not stored.
STORE_SECONDS, STORE_ROWS = 1.0, 200
DATABASE_WAIT_SECONDS = 1.0
# How long calls in flight may take to end when the judgement is cancelled, or the worker is told to end.
CANCEL_GRACE_SECONDS, STOP_GRACE_SECONDS = 1.0, 15.0
TEACHER_WAIT_SECONDS = 10.0


@dataclass(frozen=True)
class Tools:
    """What a judgement needs of its process: what opens a teacher by its name, and how calls are tried again."""

    teacher: Callable[[str], Teacher]
    retry: RetryPolicy = RetryPolicy()


@dataclass(frozen=True)
class Verdict:
    """What is stored of one judged record: scores and tags that are new, and the rejection by a threshold, if any."""

    record_id: str
    scores: dict
    tags: dict
    rejection: Rejection | None

    @property
    def outcome(self) -> str:
        """`passed`, or the reason for which a run would have rejected the record."""
        return "passed" if self.rejection is None else self.rejection.reason

    def judged_row(self, judgement_id: str) -> dict:
        """Return the columns of the judged row."""
        why = self.rejection
        detail = None if why is None else {"value": why.value, "threshold": why.threshold}
        ids = {"judgement_id": judgement_id, "record_id": self.record_id}
        return {**ids, "outcome": self.outcome, "detail": detail}


def judge(job: RunningJob, tools: Tools) -> None:
    """Judge the records that have no verdict yet, then end or pause the judgement.

    Args:
        job: the claimed judgement.
        tools: what it needs of this process.
    """
    with transaction() as session:
        judgement = session.get(Judgement, job.id)
    stop = asyncio.run(_Judging(job, tools, judgement).work())
    end(job, judgement, stop)


@dataclass
class _Judging:
    job: RunningJob
    tools: Tools
    judgement: Judgement
    stop: Stop | None = None
    waiting: deque[RecordRow] = field(default_factory=deque)
    tasks: set[asyncio.Task[Verdict]] = field(default_factory=set)
    verdicts: list[Verdict] = field(default_factory=list)
    # Ids of records that were read up to here, in this attempt.
    cursor: str = ""
    all_read: bool = False
    stored_at: float = float("-inf")
    refused: TeacherRefused | None = None

    def __post_init__(self) -> None:
        self.options = JudgementOptions.model_validate(self.judgement.options)
        self.conditions = store.build_conditions(self.judgement.dataset_id, self.judgement.filter, self.options)

    async def work(self) -> Stop:
        """Judge until no record is left or something stops it, and return what did."""
        # The default of asyncio depends on the number of cores, but these threads wait for the database.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "judgement"))
        teacher = self.tools.teacher(self.judgement.teacher)
        limiter, writer = RateLimiter(teacher.endpoint), LedgerWriter(self.judgement.account_id)
        account, judges = self.judgement.account_id, {"judge": teacher}
        self.ask = TeacherCaller(
            account, self.job.id, self.job.claim, judges, {"judge": limiter}, writer, retry=self.tools.retry
        )
        self.max_rows = max(4, ROWS_PER_PERMIT * teacher.endpoint.in_flight)
        try:
            await self._judge_all()
        except JobCancelled:
            await self._wait_for_calls(CANCEL_GRACE_SECONDS)
            raise
        except WorkerStopping:
            await self._wait_for_calls(STOP_GRACE_SECONDS)
            raise
        finally:
            await self._cancel_tasks()
            await writer.close()
            await limiter.close()
            await teacher.close()
        return self.stop or COMPLETED

    async def _judge_all(self) -> None:
        while True:
            self.job.check()
            await self._begin_rows()
            if not self.tasks:
                break
            done, _ = await asyncio.wait(self.tasks, timeout=CHECK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            self._collect(done)
            if len(self.verdicts) >= STORE_ROWS or time.monotonic() - self.stored_at > STORE_SECONDS:
                await self._store()
        await self._store()
        if self.refused is not None:
            raise JobFailed(self.refused.stop_reason, str(self.refused)) from self.refused

    async def _begin_rows(self) -> None:
        while self.stop is None and len(self.tasks) < self.max_rows:
            if not self.waiting and not self.all_read:
                await self._read_rows()
            if not self.waiting:
                return
            self.tasks.add(asyncio.create_task(self._judge_row(self.waiting.popleft())))

    async def _read_rows(self) -> None:
        rows = await asyncio.to_thread(self.job.retry_until_database_is_back, self._next_rows)
        self.waiting.extend(rows)
        # A shorter read is the last one: records that are added later are not judged.
        self.all_read = len(rows) < ROWS_PER_READ
        self.cursor = rows[-1].id if rows else self.cursor

    def _next_rows(self) -> Sequence[RecordRow]:
        with transaction() as session:
            return store.load_records_to_judge(session, self.judgement, self.conditions, self.cursor, ROWS_PER_READ)

    async def _judge_row(self, record: RecordRow) -> Verdict:
        row = to_candidate(record)
        judged = await self._judge_when_database_is_back(record, row)
        scores = {name: value for name, value in judged.scores.items() if row.scores.get(name) != value}
        tags = {name: value for name, value in judged.tags.items() if row.tags.get(name) != value}
        return Verdict(record.id, scores, tags, judged.rejection)

    async def _judge_when_database_is_back(self, record: RecordRow, row: Candidate) -> Candidate:
        """Judge the record again after an error of the database: its paid answers are in the ledger."""
        while True:
            try:
                return await judge_record(self.options, row, record.language, record.id, self.ask)
            except CallFailed as error:
                return row.reject("unjudged", error.reason)
            except OperationalError as error:
                log.warning("%s: the database is away, %s waits: %s", self.job.id, record.id, error)
                await asyncio.sleep(DATABASE_WAIT_SECONDS)

    def _collect(self, done: set[asyncio.Task[Verdict]]) -> None:
        """Collect the verdicts. A record without a verdict is judged by another attempt."""
        self.tasks -= done
        for task in done:
            try:
                self.verdicts.append(task.result())
            except (CallsEnded, AccountStopped, CircuitOpen, TeacherUnavailable) as error:
                self.stop = self.stop or _stop_for(error)
            except TeacherRefused as error:
                # No further row is begun. Those that are paid for are stored before the judgement fails.
                self.refused = self.refused or error
                self.stop = self.stop or Stop(error.stop_reason)

    async def _store(self) -> None:
        verdicts, self.verdicts = self.verdicts, []
        status = await asyncio.to_thread(self.job.retry_until_database_is_back, self._write, verdicts)
        self.stored_at = time.monotonic()
        if status == "pausing":
            self.stop = self.stop or PAUSED

    def _write(self, verdicts: Sequence[Verdict]) -> str:
        """Write scores, tags, judged rows and counters in one commit, and return the judgement's status."""
        with brief_transaction() as session:
            # `job.transaction` raises when the job is cancelled, but verdicts that are paid for are stored then, too.
            row = lock_claimed_row(session, self.job.claim)
            # In one order, so that two judgements of the same records do not wait for each other's row locks.
            for verdict in sorted(verdicts, key=lambda verdict: verdict.record_id):
                records.add_scores(session, row.dataset_id, verdict.record_id, verdict.scores, verdict.tags)
            store.add_judged_rows(session, [verdict.judged_row(row.id) for verdict in verdicts])
            if verdicts:
                row.outcomes = dict(Counter(row.outcomes) + Counter(verdict.outcome for verdict in verdicts))
                row.done_rows += len(verdicts)
                # Only attempts without a verdict count, so a long judgement survives many restarts of its worker.
                row.teacher_gone_since, row.attempt = None, 1
                self.job.progress(session, row, done_rows=row.done_rows, rows=row.rows, outcomes=row.outcomes)
            return row.status

    async def _wait_for_calls(self, seconds: float) -> None:
        """Wait for calls in flight, which are paid for, and store the verdicts of those that end in time."""
        # So that no further record is begun.
        self.stop = self.stop or PAUSED
        if self.tasks:
            done, _ = await asyncio.wait(self.tasks, timeout=seconds)
            self._collect(done)
        await self._store()

    async def _cancel_tasks(self) -> None:
        # Their paid answers are in the ledger, where the next attempt finds them.
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def to_candidate(record: RecordRow) -> Candidate:
    """Return the record as the judge sees it."""
    return Candidate(
        record.instruction,
        record.input,
        record.output,
        messages=tuple(Turn(**turn) for turn in record.messages or ()),
        reasoning=record.reasoning,
        operation=record.operation,
        scores=dict(record.scores),
        tags=dict(record.tags),
    )


def _stop_for(error: Exception) -> Stop:
    if isinstance(error, CeilingReached):
        return Stop(error.name)
    if isinstance(error, CircuitOpen):
        return Stop(TEACHER_UNAVAILABLE, str(error), error.seconds)
    if isinstance(error, TeacherUnavailable):
        return Stop(TEACHER_UNAVAILABLE, str(error), TEACHER_WAIT_SECONDS)
    # The account takes no new calls, because a user pauses or cancels the judgement.
    return PAUSED
