"""The ledger of teacher calls: reserved before, settled after, never bought twice.

A completion's key covers the whole request and its place (run, batch, position), so that a batch that
is tried again finds what it paid for. Before a call its worst case is reserved on the run: spent plus
reserved never passes a ceiling, however many workers call at once. Entries of several calls are booked
in one transaction: the run's row is what all workers of a run wait for.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.calls import store
from app.db import transaction
from app.jobs.leases import Claim, LeaseLost
from app.synth.text import storable
from app.synth.types import CallsEnded, Reply, Usage
from app.tables.runs import Batch, Completion, Run

KEY_VERSION = 1


class Stopped(Exception):
    """The run takes no new calls now: it was paused or cancelled."""


class Ending(CallsEnded):
    """The run is about to end, and makes no further call."""


class CeilingReached(CallsEnded):
    """The next call could overrun a ceiling of the run. `name` is the ceiling."""

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name


class BudgetContention(Exception):
    """The reservations of calls in flight leave no room; some may be given back soon."""


class Deferred(Exception):
    """The call waits for a remote batch: the answer will be found when this batch is tried again."""


@dataclass(frozen=True)
class Call:
    """One teacher call before it is made. `deferred`: it goes out with a remote batch, not by itself."""

    run_id: str
    batch_id: str
    step: str
    teacher: str
    model: str
    key: str
    request: dict
    worst_tokens: int
    worst_usd: Decimal
    operation: str | None = None
    deferred: bool = False


@dataclass(frozen=True)
class Paid:
    """What a served call cost and said."""

    reply: Reply
    served_model: str
    usage_estimated: bool
    cost_usd: Decimal


@dataclass(frozen=True)
class Begin:
    call: Call
    claim: Claim


@dataclass(frozen=True)
class Settle:
    key: str
    tries: int
    paid: Paid


@dataclass(frozen=True)
class GiveUp:
    """`unknown`: the call may have been served and billed, and is charged at its worst."""

    key: str
    tries: int
    unknown: bool


Entry = Begin | Settle | GiveUp


def key_of(run_id: str, batch_id: str, position: str, base_url: str, request: dict) -> str:
    """sha256 over the canonical JSON of the request, the address, and its place."""
    whole = [KEY_VERSION, run_id, batch_id, position, base_url, request]
    canonical = json.dumps(whole, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()


def begin(call: Call, claim: Claim) -> Reply | int:
    """The stored reply, or the number of the try for which the worst case is now reserved.

    Raises LeaseLost, Stopped, Ending, BudgetContention, CeilingReached or Deferred.
    """
    (found,) = book(call.run_id, [Begin(call, claim)])
    if isinstance(found, Exception):
        raise found
    return found


def settle(call: Call, tries: int, paid: Paid) -> None:
    """Keep the reply and turn the reservation into what was paid.

    A try that was given up as unknown meanwhile has been charged already: its reply is kept all the same.
    """
    book(call.run_id, [Settle(call.key, tries, paid)])


def give_up(call: Call, tries: int, unknown: bool) -> None:
    """The call failed."""
    book(call.run_id, [GiveUp(call.key, tries, unknown)])


def book(run_id: str, entries: Sequence[Entry]) -> list[Reply | int | Exception | None]:
    """Book all entries in one transaction; for each Begin what `begin` returns, or the exception that it raises."""
    with transaction() as session:
        return book_in(session, run_id, entries)


def book_in(session: Session, run_id: str, entries: Sequence[Entry]) -> list[Reply | int | Exception | None]:
    """The same in a transaction of the caller's."""
    run = store.locked_run(session, run_id)
    if run is None:
        return [LeaseLost(run_id) if isinstance(entry, Begin) else None for entry in entries]
    keys = [entry.call.key if isinstance(entry, Begin) else entry.key for entry in entries]
    rows = store.completions_locked(session, keys)
    held = _held(session, [entry.claim for entry in entries if isinstance(entry, Begin)])
    booking = _Booking(session, run, rows)
    found: list[Reply | int | Exception | None] = []
    for entry in entries:
        if isinstance(entry, Settle):
            found.append(booking.settle(entry))
        elif isinstance(entry, GiveUp):
            found.append(booking.give_up(entry))
        elif (entry.claim.id, entry.claim.token) in held:
            found.append(booking.begin(entry.call))
        else:
            found.append(LeaseLost(entry.claim.id))
    session.flush()
    return found


def _held(session: Session, claims: Sequence[Claim]) -> set[tuple[str, int]]:
    if not claims:
        return set()
    ids = {claim.id for claim in claims}
    query = select(Batch.id, Batch.lease_token).where(Batch.id.in_(ids), Batch.status == "leased")
    return {(row.id, row.lease_token) for row in session.execute(query)}


class _Booking:
    """The run, locked, and the completions that are booked on it."""

    def __init__(self, session: Session, run: Run, rows: dict[str, Completion]):
        self.session, self.run, self.rows = session, run, rows

    def begin(self, call: Call) -> Reply | int | Exception:
        row = self.rows.get(call.key)
        if row is not None and row.status == "done":
            return reply_of(row)
        if row is not None and (row.status == "waiting" or row.remote_batch_id is not None):
            return Deferred(call.key)
        if row is not None and row.status == "sent":
            self.charge_unknown(row)
        refused = self._refusal(call)
        if refused is not None:
            if row is not None and row.status == "sent":
                row.status = "failed"
            return refused
        if row is None:
            row = Completion(key=call.key, run_id=call.run_id, batch_id=call.batch_id, tries=0)
            self._zero(row)
            self.rows[call.key] = row
            self.session.add(row)
        row.step, row.operation, row.request = call.step, call.operation, call.request
        row.teacher, row.model = call.teacher, call.model
        row.status, row.tries = "waiting" if call.deferred else "sent", row.tries + 1
        row.reserved_tokens, row.reserved_usd = call.worst_tokens, call.worst_usd
        self.run.reserved_requests += 1
        self.run.reserved_tokens += call.worst_tokens
        self.run.reserved_usd += call.worst_usd
        return Deferred(call.key) if call.deferred else row.tries

    @staticmethod
    def _zero(row: Completion) -> None:
        row.prompt_tokens = row.cached_tokens = row.completion_tokens = row.unknown_tokens = 0
        row.cost_usd = Decimal(0)

    def _refusal(self, call: Call) -> Exception | None:
        """Why the call can't be made, or None. BudgetContention while reservations, not payments, stand in its way."""
        run = self.run
        if run.status == "running" and run.stopping is not None:
            return Ending(run.id)
        if run.status != "running":
            return Stopped(run.id)
        tokens = run.prompt_tokens + run.completion_tokens + run.unknown_tokens
        spent = {"max_requests": run.requests, "max_usd": run.cost_usd, "max_tokens": tokens}
        reserved = {
            "max_requests": run.reserved_requests,
            "max_usd": run.reserved_usd,
            "max_tokens": run.reserved_tokens,
        }
        wanted = {"max_requests": 1, "max_usd": call.worst_usd, "max_tokens": call.worst_tokens}
        for name, used in spent.items():
            most = getattr(run, name)
            if most is not None and used + reserved[name] + wanted[name] > most:
                return BudgetContention(run.id) if run.reserved_requests else CeilingReached(name)
        return None

    def settle(self, entry: Settle) -> None:
        row, paid = self.rows.get(entry.key), entry.paid
        if row is None:
            return
        if row.tries == entry.tries and row.reserved_tokens:
            usage = paid.reply.usage
            self._release(row)
            row.cost_usd += paid.cost_usd
            row.prompt_tokens += usage.prompt
            row.cached_tokens += usage.cached
            row.completion_tokens += usage.completion
            self.run.requests += 1
            self.run.prompt_tokens += usage.prompt
            self.run.cached_tokens += usage.cached
            self.run.completion_tokens += usage.completion
            self.run.cost_usd += paid.cost_usd
            self.run.simulated = self.run.simulated or paid.reply.simulated
        if row.status != "done":
            _keep(row, paid)

    def give_up(self, entry: GiveUp) -> None:
        row = self.rows.get(entry.key)
        if row is None or row.tries != entry.tries or row.status not in ("sent", "waiting"):
            return
        if entry.unknown:
            self.charge_unknown(row)
        else:
            self._release(row)
        row.status, row.remote_batch_id = "failed", None

    def charge_unknown(self, row: Completion) -> None:
        tokens, cost = row.reserved_tokens, row.reserved_usd
        self._release(row)
        row.cost_usd += cost
        row.unknown_tokens += tokens
        self.run.requests += 1
        self.run.unknown_requests += 1
        self.run.unknown_tokens += tokens
        self.run.cost_usd += cost

    def _release(self, row: Completion) -> None:
        self.run.reserved_requests -= 1
        self.run.reserved_tokens -= row.reserved_tokens
        self.run.reserved_usd -= row.reserved_usd
        row.reserved_tokens, row.reserved_usd = 0, Decimal(0)


def close(session: Session, run: Run) -> None:
    """At the end of a run: what was sent and never came home is charged as unknown; what was never sent costs nothing.

    `run` is locked by the caller.
    """
    booking = _Booking(session, run, {})
    for row in store.open_completions(session, run.id):
        booking.rows[row.key] = row
        booking.give_up(GiveUp(row.key, row.tries, unknown=row.status == "sent"))
    session.flush()


def reply_of(row: Completion) -> Reply:
    usage = Usage(row.prompt_tokens, row.cached_tokens, row.completion_tokens)
    return Reply(row.text or "", row.finish_reason or "stop", row.refusal, usage, row.key, row.simulated)


def _keep(row: Completion, paid: Paid) -> None:
    reply = paid.reply
    row.status, row.remote_batch_id = "done", None
    row.text, row.refusal = storable(reply.text), storable(reply.refusal)
    row.finish_reason, row.served_model = reply.finish_reason, paid.served_model
    row.simulated, row.usage_estimated = reply.simulated, paid.usage_estimated
    row.finished_at = func.clock_timestamp()
