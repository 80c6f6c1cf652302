"""The ledger of teacher calls: reserved before, settled after, never bought twice.

A completion's key covers the whole request and its place (run, batch, position), so that a batch that
is tried again finds what it paid for. Before a call its worst case is reserved on the run: spent plus
reserved never passes a ceiling, however many workers call at once.
"""

import hashlib
import json
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.db import transaction
from app.leases import Claim, LeaseLost
from app.runs import store
from app.synth.text import storable
from app.synth.types import Reply, Usage
from app.tables.runs import Batch, Completion, Run

KEY_VERSION = 1


class Stopped(Exception):
    """The run takes no new calls: it was paused, cancelled, or is about to end."""


class CeilingReached(Exception):
    """The next call could overrun a ceiling of the run. `name` is the ceiling."""

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name


class Crowded(Exception):
    """The reservations of calls in flight leave no room; some may be given back soon."""


@dataclass(frozen=True)
class Call:
    """One teacher call before it is made."""

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


@dataclass(frozen=True)
class Paid:
    """What a served call cost and said."""

    reply: Reply
    served_model: str
    usage_estimated: bool
    cost_usd: Decimal


def key_of(run_id: str, batch_id: str, position: str, base_url: str, request: dict) -> str:
    """sha256 over the canonical JSON of the request, the address, and its place."""
    whole = [KEY_VERSION, run_id, batch_id, position, base_url, request]
    canonical = json.dumps(whole, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()


def begin(call: Call, claim: Claim) -> Reply | int:
    """The stored reply, or the number of the try for which the worst case is now reserved.

    Raises LeaseLost, Stopped, Crowded or CeilingReached; then nothing is reserved.
    """
    with transaction() as session:
        store.hold_run(session, call.run_id)
        _fence(session, claim)
        row = store.completion_locked(session, call.key)
        if row is not None and row.status == "done":
            return reply_of(row)
        if row is not None and row.status == "sent":
            _charge_unknown(session, row)
        _reserve(session, call)
        if row is None:
            row = Completion(key=call.key, run_id=call.run_id, batch_id=call.batch_id, tries=0)
            session.add(row)
        row.step, row.operation, row.request = call.step, call.operation, call.request
        row.teacher, row.model = call.teacher, call.model
        row.status, row.tries = "sent", row.tries + 1
        row.reserved_tokens, row.reserved_usd = call.worst_tokens, call.worst_usd
        return row.tries


def _fence(session: Session, claim: Claim) -> None:
    mine = select(Batch.id).where(Batch.id == claim.id, Batch.lease_token == claim.token, Batch.status == "leased")
    if session.scalar(mine) is None:
        raise LeaseLost(claim.id)


def _reserve(session: Session, call: Call) -> None:
    tokens = Run.prompt_tokens + Run.completion_tokens + Run.unknown_tokens + Run.reserved_tokens + call.worst_tokens
    reserved = session.execute(
        update(Run)
        .where(
            Run.id == call.run_id,
            Run.status == "running",
            Run.stopping.is_(None),
            Run.max_requests.is_(None) | (Run.requests + Run.reserved_requests + 1 <= Run.max_requests),
            Run.max_tokens.is_(None) | (tokens <= Run.max_tokens),
            Run.max_usd.is_(None) | (Run.cost_usd + Run.reserved_usd + call.worst_usd <= Run.max_usd),
        )
        .values(
            reserved_requests=Run.reserved_requests + 1,
            reserved_tokens=Run.reserved_tokens + call.worst_tokens,
            reserved_usd=Run.reserved_usd + call.worst_usd,
        )
        .execution_options(synchronize_session=False)
    )
    if reserved.rowcount == 0:
        raise _why_not(session, call)


def _why_not(session: Session, call: Call) -> Exception:
    run = session.scalar(select(Run).where(Run.id == call.run_id).execution_options(populate_existing=True))
    if run is None or run.status != "running" or run.stopping is not None:
        return Stopped(call.run_id)
    if run.reserved_requests > 0:
        return Crowded(call.run_id)
    if run.max_requests is not None and run.requests + 1 > run.max_requests:
        return CeilingReached("max_requests")
    if run.max_usd is not None and run.cost_usd + call.worst_usd > run.max_usd:
        return CeilingReached("max_usd")
    return CeilingReached("max_tokens")


def settle(call: Call, tries: int, paid: Paid) -> None:
    """Keep the reply and turn the reservation into what was paid.

    A try that was given up as unknown meanwhile has been charged already: its reply is kept all the same.
    """
    with transaction() as session:
        store.hold_run(session, call.run_id)
        row = store.completion_locked(session, call.key)
        if row is None:
            return
        usage = paid.reply.usage
        if row.tries == tries and row.reserved_tokens:
            _release(session, row)
            row.cost_usd += paid.cost_usd
            _charge(session, row, requests=1, usage=usage, cost=paid.cost_usd, simulated=paid.reply.simulated)
            row.prompt_tokens += usage.prompt
            row.cached_tokens += usage.cached
            row.completion_tokens += usage.completion
        if row.status != "done":
            _keep(row, paid)


def give_up(call: Call, tries: int, unknown: bool) -> None:
    """The call failed. `unknown`: it may have been served and billed, and is charged at its worst."""
    with transaction() as session:
        store.hold_run(session, call.run_id)
        row = store.completion_locked(session, call.key)
        if row is None or row.tries != tries or row.status != "sent":
            return
        if unknown:
            _charge_unknown(session, row)
        else:
            _release(session, row)
        row.status = "failed"


def close(session: Session, run: Run) -> None:
    """At the end of a run: whatever was sent and never came home is charged as unknown."""
    for row in store.sent_completions(session, run.id):
        _charge_unknown(session, row)
        row.status = "failed"
    session.flush()
    session.refresh(run)


def reply_of(row: Completion) -> Reply:
    usage = Usage(row.prompt_tokens, row.cached_tokens, row.completion_tokens)
    return Reply(row.text or "", row.finish_reason or "stop", row.refusal, usage, row.key, row.simulated)


def _keep(row: Completion, paid: Paid) -> None:
    reply = paid.reply
    row.status = "done"
    row.text, row.refusal = storable(reply.text), storable(reply.refusal)
    row.finish_reason, row.served_model = reply.finish_reason, paid.served_model
    row.simulated, row.usage_estimated = reply.simulated, paid.usage_estimated
    row.finished_at = func.clock_timestamp()


def _charge_unknown(session: Session, row: Completion) -> None:
    tokens, cost = row.reserved_tokens, row.reserved_usd
    _release(session, row)
    row.cost_usd += cost
    row.unknown_tokens += tokens
    _charge(session, row, requests=1, unknown=1, unknown_tokens=tokens, cost=cost)


def _release(session: Session, row: Completion) -> None:
    session.execute(
        update(Run)
        .where(Run.id == row.run_id)
        .values(
            reserved_requests=Run.reserved_requests - 1,
            reserved_tokens=Run.reserved_tokens - row.reserved_tokens,
            reserved_usd=Run.reserved_usd - row.reserved_usd,
        )
        .execution_options(synchronize_session=False)
    )
    row.reserved_tokens, row.reserved_usd = 0, Decimal(0)


def _charge(
    session: Session,
    row: Completion,
    requests: int,
    cost: Decimal,
    usage: Usage = Usage(),
    unknown: int = 0,
    unknown_tokens: int = 0,
    simulated: bool = False,
) -> None:
    session.execute(
        update(Run)
        .where(Run.id == row.run_id)
        .values(
            requests=Run.requests + requests,
            unknown_requests=Run.unknown_requests + unknown,
            prompt_tokens=Run.prompt_tokens + usage.prompt,
            cached_tokens=Run.cached_tokens + usage.cached,
            completion_tokens=Run.completion_tokens + usage.completion,
            unknown_tokens=Run.unknown_tokens + unknown_tokens,
            cost_usd=Run.cost_usd + cost,
            simulated=Run.simulated | simulated,
        )
        .execution_options(synchronize_session=False)
    )
