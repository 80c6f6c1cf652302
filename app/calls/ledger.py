"""The ledger of teacher calls: reserved before, settled after, never bought twice.

A completion's key covers the whole request and its position (owner, unit, position), so that a unit of work that is
tried again finds what it paid for. Before a call its worst case is reserved on the account: certain cost, holds and
reservations together never pass a ceiling, however many workers call at once. Entries of several calls are booked in
one transaction: the account's row is what all workers of a job wait for.

What becomes of a try:

- answered: its reservation goes, and what it cost is booked as *certain*.
- not served (refused, or it never reached the teacher): its reservation goes, and it costs nothing.
- lost (the worker was killed, or no answer came in time): it may have been billed. It is *possible* cost, and holds its
  worst case of the ceilings.

What settles a lost try:

- its own answer, however late, after the end of the job, too: booked as certain; the hold goes. So does the hold when
  it is learned late that the try was not served.
- the answer to another try of the same request: the hold falls from the worst case to what that answer cost (never
  above the worst case). It stays possible: the teacher may have billed both. Both were the same prompt; where the
  teacher does not repeat itself the output that was lost may have been longer.
- the operator, who releases the account's holds: each falls to its estimate at that moment, if any call was
  answered by then. The call stays lost, and the answer to another try still lowers its hold.

The estimate of a lost try that nothing has settled is the mean of the answered calls of its step, of all answered calls
where its step has none, and its worst case where nothing was answered at all; never more than the worst case.

So the certain cost never exceeds the teacher's bill, and until the operator releases holds, certain plus held (holds
and reservations) does not fall below it; but for a lost try that was billed for more output than the answered try of
the same request.

Locks are taken in the order dataset, run (or another job), unit, account, completions.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal

from sqlalchemy import func
from sqlalchemy.orm import Session

from app.calls import store
from app.calls.costs import PLACES
from app.jobs.leases import Claim, LeaseLost
from app.persistence.db import brief_transaction
from app.synth.text import storable
from app.synth.types import CallsEnded, Reply, Usage
from app.tables.accounts import Account, Completion, LostCall

KEY_VERSION = 1


class Stopped(Exception):
    """The account takes no new calls now: its job was paused or cancelled, or has ended."""


class Ending(CallsEnded):
    """The job is about to end, and makes no further call."""


class CeilingReached(CallsEnded):
    """The next call could overrun a ceiling of the account. `name` is the ceiling."""

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name


class BudgetContention(Exception):
    """The reservations of calls in flight leave no room; some may be given back soon."""


class Deferred(Exception):
    """The call waits for a remote batch: the answer will be here when its unit of work is tried again."""


@dataclass(frozen=True)
class Call:
    """One teacher call before it is made. `deferred`: it goes out with a remote batch, not by itself."""

    account_id: str
    unit_id: str
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
    thought_usd: Decimal = Decimal(0)


@dataclass(frozen=True)
class Begin:
    call: Call
    claim: Claim


@dataclass(frozen=True)
class Settle:
    """Try number `tries` of the request was answered."""

    key: str
    tries: int
    paid: Paid


@dataclass(frozen=True)
class GiveUp:
    """Try number `tries` of the request failed. `unknown`: it may have been served and billed all the same."""

    key: str
    tries: int
    unknown: bool


Entry = Begin | Settle | GiveUp


def key_of(owner_id: str, unit_id: str, position: str, base_url: str, request: dict) -> str:
    """sha256 over the canonical JSON of the request, the address, and its position."""
    parts = [KEY_VERSION, owner_id, unit_id, position, base_url, request]
    canonical = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()


def begin(call: Call, claim: Claim) -> Reply | int:
    """The stored reply, or the number of the try for which the worst case is now reserved.

    Raises LeaseLost, Stopped, Ending, BudgetContention, CeilingReached or Deferred.
    """
    (result,) = book(call.account_id, [Begin(call, claim)])
    if isinstance(result, Exception):
        raise result
    return result


def settle(call: Call, tries: int, paid: Paid) -> None:
    """Keep the reply and turn the reservation, or the hold of a lost try, into what was paid."""
    book(call.account_id, [Settle(call.key, tries, paid)])


def give_up(call: Call, tries: int, unknown: bool) -> None:
    """The call failed."""
    book(call.account_id, [GiveUp(call.key, tries, unknown)])


def book(account_id: str, entries: Sequence[Entry]) -> list[Reply | int | Exception | None]:
    """Book all entries in one transaction; for each Begin what `begin` returns, or the exception that it raises."""
    with brief_transaction() as session:
        return book_in(session, account_id, entries)


def book_in(session: Session, account_id: str, entries: Sequence[Entry]) -> list[Reply | int | Exception | None]:
    """The same in a transaction of the caller's."""
    account = store.locked_account(session, account_id)
    if account is None:
        return [LeaseLost(account_id) if isinstance(entry, Begin) else None for entry in entries]
    keys = [entry.call.key if isinstance(entry, Begin) else entry.key for entry in entries]
    booking = _Booking(session, account, store.completions_locked(session, keys))
    claims = _valid_claims(session, [entry.claim for entry in entries if isinstance(entry, Begin)])
    results = [_book_entry(booking, entry, claims) for entry in entries]
    session.flush()
    return results


def _book_entry(booking: "_Booking", entry: Entry, valid: set[Claim]) -> Reply | int | Exception | None:
    if isinstance(entry, Settle):
        return booking.settle(entry)
    if isinstance(entry, GiveUp):
        return booking.give_up(entry)
    return booking.begin(entry.call) if entry.claim in valid else LeaseLost(entry.claim.id)


def _valid_claims(session: Session, claims: Iterable[Claim]) -> set[Claim]:
    """Those whose row still carries their token, whatever table it is of."""
    by_table: defaultdict[type, set[Claim]] = defaultdict(set)
    for claim in claims:
        by_table[claim.table].add(claim)
    valid = set()
    for table, members in by_table.items():
        tokens = store.lease_tokens(session, table, [claim.id for claim in members])
        valid |= {claim for claim in members if tokens.get(claim.id) == claim.token}
    return valid


class _Booking:
    """The account, locked, and the completions that are booked on it."""

    def __init__(self, session: Session, account: Account, completions: dict[str, Completion]):
        self.session, self.account, self.completions = session, account, completions
        with_lost_tries = [row.key for row in completions.values() if row.lost_tries]
        self.lost = store.lost_calls(session, with_lost_tries)

    def begin(self, call: Call) -> Reply | int | Exception:
        row = self.completions.get(call.key)
        if row is not None:
            if row.status == "waiting" or (row.remote_batch_id is not None and row.status != "done"):
                return Deferred(call.key)
            if row.reserved_tokens:
                # Whoever sent it has lost the unit of work since: its answer may still come, or never.
                self._lose(row)
            if row.status == "done":
                return reply_of(row)
        refusal = self._refusal(call)
        if refusal is not None:
            if row is not None:
                row.status = "failed"
            return refusal
        return self._reserve(row or self._new_completion(call), call)

    def _new_completion(self, call: Call) -> Completion:
        row = Completion(key=call.key, account_id=call.account_id, unit_id=call.unit_id, tries=0)
        row.answers = row.lost_tries = row.prompt_tokens = row.cached_tokens = row.completion_tokens = 0
        row.cost_usd, row.thought_tokens, row.thought_usd = Decimal(0), 0, Decimal(0)
        self.completions[call.key] = row
        self.session.add(row)
        return row

    def _reserve(self, row: Completion, call: Call) -> int | Deferred:
        row.step, row.operation, row.request = call.step, call.operation, call.request
        row.teacher, row.model = call.teacher, call.model
        row.status, row.tries = "waiting" if call.deferred else "sent", row.tries + 1
        row.reserved_tokens, row.reserved_usd = call.worst_tokens, call.worst_usd
        self.account.reserved_requests += 1
        self.account.reserved_tokens += call.worst_tokens
        self.account.reserved_usd += call.worst_usd
        return Deferred(call.key) if call.deferred else row.tries

    def _refusal(self, call: Call) -> Exception | None:
        """Why the call can't be made, or None. BudgetContention while only calls in flight stand in its way."""
        account = self.account
        if account.state != "open":
            return Ending(account.id) if account.state == "ending" else Stopped(account.id)
        tokens = account.prompt_tokens + account.completion_tokens + account.held_tokens
        needed = {
            "max_requests": account.requests + account.lost_requests + account.reserved_requests + 1,
            "max_usd": account.cost_usd + account.held_usd + account.reserved_usd + call.worst_usd,
            "max_tokens": tokens + account.reserved_tokens + call.worst_tokens,
        }
        for name, value in needed.items():
            ceiling = getattr(account, name)
            if ceiling is not None and value > ceiling:
                return BudgetContention(account.id) if account.reserved_requests else CeilingReached(name)
        return None

    def settle(self, entry: Settle) -> None:
        row = self.completions.get(entry.key)
        if row is None:
            return
        if self._end_try(row, entry.tries):
            self._book_answer(row, entry.paid)
        if row.status != "done":
            _keep(row, entry.paid)
        self._price_lost_tries(row)

    def give_up(self, entry: GiveUp) -> None:
        row = self.completions.get(entry.key)
        if row is None:
            return
        in_flight = row.tries == entry.tries and row.reserved_tokens
        if in_flight and entry.unknown:
            self._lose(row)
        elif not entry.unknown:
            self._end_try(row, entry.tries)
        if in_flight and row.status != "done":
            row.status = "failed"
        if not entry.unknown:
            row.remote_batch_id = None

    def _end_try(self, row: Completion, number: int) -> bool:
        """Give back what the try has reserved or holds. False when it ended before."""
        if row.tries == number and row.reserved_tokens:
            self._release_reservation(row)
            return True
        lost = self.lost.pop((row.key, number), None)
        if lost is None:
            return False
        self.account.lost_requests -= 1
        self.account.held_tokens -= lost.held_tokens
        self.account.held_usd -= lost.held_usd
        row.lost_tries -= 1
        self.session.delete(lost)
        return True

    def _book_answer(self, row: Completion, paid: Paid) -> None:
        account, usage = self.account, paid.reply.usage
        for counters in (row, account):
            counters.prompt_tokens += usage.prompt
            counters.cached_tokens += usage.cached
            counters.completion_tokens += usage.completion
            counters.cost_usd += paid.cost_usd
            counters.thought_tokens += usage.thought
            counters.thought_usd += paid.thought_usd
        # A refusal is free: it says nothing of what an answer costs.
        row.answers += usage.prompt + usage.completion > 0
        account.requests += 1
        account.simulated = account.simulated or paid.reply.simulated

    def _price_lost_tries(self, row: Completion) -> None:
        if row.answers:
            for lost in self.lost.values():
                if lost.key == row.key and lost.state in ("unsettled", "released"):
                    tokens = (row.prompt_tokens + row.completion_tokens) // row.answers
                    hold(self.account, lost, "priced", tokens, row.cost_usd / row.answers)

    def _lose(self, row: Completion) -> None:
        """The answer to the try that is in flight never came."""
        tokens, cost = row.reserved_tokens, row.reserved_usd
        self._release_reservation(row)
        lost = LostCall(
            key=row.key,
            number=row.tries,
            account_id=row.account_id,
            step=row.step,
            operation=row.operation,
            teacher=row.teacher,
            state="unsettled",
            worst_tokens=tokens,
            worst_usd=cost,
            held_tokens=tokens,
            held_usd=cost,
        )
        self.lost[row.key, row.tries] = lost
        self.session.add(lost)
        # Its answer may be among the entries that are booked with it.
        self.session.flush()
        row.lost_tries += 1
        self.account.lost_requests += 1
        self.account.held_tokens += tokens
        self.account.held_usd += cost
        self._price_lost_tries(row)

    def _release_reservation(self, row: Completion) -> None:
        self.account.reserved_requests -= 1
        self.account.reserved_tokens -= row.reserved_tokens
        self.account.reserved_usd -= row.reserved_usd
        row.reserved_tokens, row.reserved_usd = 0, Decimal(0)


def hold(account: Account, lost: LostCall, state: str, tokens: int, cost: Decimal) -> None:
    """Let the hold of a lost call fall to this much; it never rises. The account is locked."""
    tokens, cost = min(lost.held_tokens, tokens), min(lost.held_usd, cost.quantize(PLACES, ROUND_UP))
    account.held_tokens -= lost.held_tokens - tokens
    account.held_usd -= lost.held_usd - cost
    lost.state, lost.held_tokens, lost.held_usd = state, tokens, cost


def close(session: Session, account_id: str) -> None:
    """The job has ended: a call without an answer is lost; one that was never sent costs nothing.

    A late answer is still booked. The account takes no new calls.
    """
    account = store.locked_account(session, account_id)
    account.state = "stopped"
    rows = {row.key: row for row in store.reserved_completions(session, account_id)}
    booking = _Booking(session, account, rows)
    for row in rows.values():
        # A remote batch that has the call may be with the teacher already.
        never_sent = row.status == "waiting" and row.remote_batch_id is None
        booking.give_up(GiveUp(row.key, row.tries, unknown=not never_sent))
    session.flush()


def reply_of(row: Completion) -> Reply:
    usage = Usage(row.prompt_tokens, row.cached_tokens, row.completion_tokens, row.thought_tokens)
    return Reply(
        text=row.text or "",
        finish_reason=row.finish_reason or "stop",
        refusal=row.refusal,
        usage=usage,
        id=row.key,
        simulated=row.simulated,
        thought=row.thought or "",
        repairs=tuple(row.repairs),
        raw_text=row.raw_text,
    )


def _keep(row: Completion, paid: Paid) -> None:
    reply = paid.reply
    row.status, row.remote_batch_id = "done", None
    row.text, row.refusal = storable(reply.text), storable(reply.refusal)
    row.repairs = list(reply.repairs)
    row.thought, row.raw_text = storable(reply.thought or None), storable(reply.raw_text)
    row.finish_reason, row.served_model = reply.finish_reason, paid.served_model
    row.simulated, row.usage_estimated = reply.simulated, paid.usage_estimated
    row.finished_at = func.clock_timestamp()
