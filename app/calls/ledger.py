"""The ledger of teacher calls: reserved before the call, posted after it, and never bought twice.

A completion's key covers the whole request and its position (owner, unit, position), so that a unit of work that is
tried again finds the replies that it paid for. Before a call its worst case is reserved on the account: certain cost,
holds and reservations together never exceed a ceiling, however many workers call at once. Entries of several calls are
posted in one transaction, because all workers of a job wait for the account's row.

A try has one of three outcomes:

- answered: its reservation is released, and its cost is posted as *certain*.
- not served (refused, or it never reached the teacher): its reservation is released, and it costs nothing.
- lost (the worker was killed, or no answer came in time): it may have been billed. It is *possible* cost, and holds its
  worst case of the ceilings.

Three events change the hold of a lost try:

- its own answer, however late, also after the end of the job: its cost is posted as certain, and the hold is released.
  The hold is also released when it is learned late that the try was not served.
- the answer to another try of the same request: the hold falls from the worst case to what that answer cost (never
  above the worst case). It stays possible: the teacher may have billed both. Both were the same prompt; where the
  teacher does not repeat itself the output that was lost may have been longer.
- the operator, who releases the account's holds: each falls to its estimate at that moment, if any call was
  answered by then. The call stays lost, and the answer to another try still lowers its hold.

The estimate of a lost try whose hold no event has changed is the mean of the answered calls of its step, of all
answered calls where its step has none, and its worst case where no call was answered; never more than the worst case.

So the certain cost never exceeds the teacher's bill. Until the operator releases holds, certain plus held (holds and
reservations) does not fall below the bill, with one exception: a lost try that was billed for more output than the
answered try of the same request.

Locks are taken in the order dataset, run (or another job), unit, account, completions.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal

from sqlalchemy import func
from sqlalchemy.orm import Session

from app.calls import reservations, store
from app.calls.ledger_entries import Call, CallDeferred, Entry, PaidReply, PostAnswer, PostFailure, Reserve
from app.calls.lost_calls import LostCalls
from app.jobs.leases import Claim, LeaseLost
from app.persistence.db import brief_transaction
from app.synth.text import storable
from app.synth.types import Reply, Usage
from app.tables.accounts import Account, Completion

# For a Reserve: the stored reply, the number of the try that may be made now, or the reason against it. Else None.
Result = Reply | int | Exception | None


def reserve(call: Call, claim: Claim) -> Reply | int:
    """Reserve the worst case of a call, unless its reply is stored already.

    Returns:
        The stored reply, or the number of the try for which the worst case is now reserved.

    Raises:
        LeaseLost: Another worker holds the unit of work.
        AccountStopped: The account takes no new calls.
        AccountEnding: The job of the account is about to end.
        BudgetContention: Calls in flight leave no room; try again when one of them has ended.
        CeilingReached: The call does not fit under a ceiling.
        CallDeferred: The call waits for a remote batch.
    """
    (result,) = post(call.account_id, [Reserve(call, claim)])
    if isinstance(result, Exception):
        # One of the errors above: a posting returns them, so that the other entries of the transaction are not lost.
        raise result
    return result


def post_answer(call: Call, tries: int, paid: PaidReply) -> None:
    """Store the reply, and replace the reservation, or the hold of a lost try, by what was paid."""
    post(call.account_id, [PostAnswer(call.key, tries, paid)])


def post_failure(call: Call, tries: int, unknown: bool) -> None:
    """End a try that failed. `unknown`: it may have been served and billed all the same."""
    post(call.account_id, [PostFailure(call.key, tries, unknown)])


def post(account_id: str, entries: Sequence[Entry]) -> list[Result]:
    """Post the entries, in their order, in one transaction.

    Returns:
        One result for each entry: for a Reserve what `reserve` returns, or the exception that it raises; else None.
    """
    with brief_transaction() as session:
        return post_in(session, account_id, entries)


def post_in(session: Session, account_id: str, entries: Sequence[Entry]) -> list[Result]:
    """Post the entries in the caller's transaction; the results are those of `post`."""
    account = store.lock_account(session, account_id)
    if account is None:
        # The dataset was deleted with its accounts: the work on it is dropped like that of a lost lease.
        return [LeaseLost(account_id) if isinstance(entry, Reserve) else None for entry in entries]
    keys = [entry.call.key if isinstance(entry, Reserve) else entry.key for entry in entries]
    posting = _Posting(session, account, store.lock_completions(session, keys))
    # Read under the account's lock: a worker whose lease was revoked before can't reserve anything from here on.
    valid_claims = _find_valid_claims(session, [entry.claim for entry in entries if isinstance(entry, Reserve)])
    results = [_post_entry(posting, entry, valid_claims) for entry in entries]
    session.flush()
    return results


def close_account(session: Session, account_id: str) -> None:
    """Stop the account of a job that has ended. The calls in flight are lost; one that was never sent costs nothing.

    The account takes no new calls. An answer that comes later is still posted.
    """
    account = store.lock_account(session, account_id)
    account.state = "stopped"
    completions = {row.key: row for row in store.lock_reserved_completions(session, account_id)}
    posting = _Posting(session, account, completions)
    for row in completions.values():
        # A call that is part of a remote batch may have reached the teacher already.
        never_sent = row.status == "waiting" and row.remote_batch_id is None
        posting.post_failure(PostFailure(row.key, row.tries, unknown=not never_sent))
    session.flush()


def _post_entry(posting: "_Posting", entry: Entry, valid_claims: set[Claim]) -> Result:
    if isinstance(entry, PostAnswer):
        return posting.post_answer(entry)
    if isinstance(entry, PostFailure):
        return posting.post_failure(entry)
    return posting.reserve(entry.call) if entry.claim in valid_claims else LeaseLost(entry.claim.id)


def _find_valid_claims(session: Session, claims: Iterable[Claim]) -> set[Claim]:
    """The claims whose row still has their token, whatever table it is of."""
    by_table: defaultdict[type, set[Claim]] = defaultdict(set)
    for claim in claims:
        by_table[claim.table].add(claim)
    valid = set()
    for table, members in by_table.items():
        tokens = store.lease_tokens(session, table, [claim.id for claim in members])
        valid |= {claim for claim in members if tokens.get(claim.id) == claim.token}
    return valid


class _Posting:
    """The account, locked, and the completions to which entries are posted."""

    def __init__(self, session: Session, account: Account, completions: dict[str, Completion]):
        self.session, self.account, self.completions = session, account, completions
        self.lost_calls = LostCalls(session, account, completions)

    def reserve(self, call: Call) -> Reply | int | Exception:
        row = self.completions.get(call.key)
        if row is not None:
            if row.status == "waiting" or (row.remote_batch_id is not None and row.status != "done"):
                return CallDeferred(call.key)
            if row.reserved_tokens:
                # The worker that sent the try in flight has lost the unit of work since. Its answer may never come.
                self._lose_try(row)
            if row.status == "done":
                return reply_of(row)
        # After the lost try was turned into a hold: the hold counts under the ceilings of this call.
        refusal = reservations.find_refusal(self.account, call)
        if refusal is not None:
            if row is not None:
                row.status = "failed"
            return refusal
        row = row or self._add_completion(call)
        reservations.reserve(self.account, row, call)
        return CallDeferred(call.key) if call.deferred else row.tries

    def post_answer(self, entry: PostAnswer) -> None:
        row = self.completions.get(entry.key)
        if row is None:
            return
        # A try is paid for once: an answer that is posted again, after its try has ended, adds no cost.
        is_in_flight = row.tries == entry.tries and bool(row.reserved_tokens)
        reserved = (row.reserved_tokens, row.reserved_usd)
        if self._end_try(row, entry.tries):
            _add_cost(self.account, row, entry.paid)
            if is_in_flight:
                usage = entry.paid.reply.usage
                reservations.learn_excess(self.account, reserved, usage.prompt + usage.completion, entry.paid.cost_usd)
        # The first answer stays the answer: rows may have been made of it.
        if row.status != "done":
            _store_reply(row, entry.paid)
        self.lost_calls.price(row)

    def post_failure(self, entry: PostFailure) -> None:
        row = self.completions.get(entry.key)
        if row is None:
            return
        in_flight = row.tries == entry.tries and row.reserved_tokens
        if in_flight and entry.unknown:
            self._lose_try(row)
        elif not entry.unknown:
            self._end_try(row, entry.tries)
        if in_flight and row.status != "done":
            row.status = "failed"
        # The call may go out with another remote batch. Of an unknown one the answer may still come with this batch.
        if not entry.unknown:
            row.remote_batch_id = None

    def _add_completion(self, call: Call) -> Completion:
        row = Completion(key=call.key, account_id=call.account_id, unit_id=call.unit_id, tries=0)
        # The defaults of the columns are set by the INSERT, which comes too late for the sums below.
        row.answers = row.lost_tries = row.prompt_tokens = row.cached_tokens = row.completion_tokens = 0
        row.cost_usd, row.thought_tokens, row.thought_usd = Decimal(0), 0, Decimal(0)
        self.completions[call.key] = row
        self.session.add(row)
        return row

    def _end_try(self, row: Completion, number: int) -> bool:
        """Release the reservation or the hold of the try. False: the try has ended before."""
        if row.tries == number and row.reserved_tokens:
            reservations.release(self.account, row)
            return True
        return self.lost_calls.remove(row, number)

    def _lose_try(self, row: Completion) -> None:
        """Turn the reservation of the try in flight into the hold of a lost call."""
        tokens, cost = row.reserved_tokens, row.reserved_usd
        reservations.release(self.account, row)
        self.lost_calls.add(row, tokens, cost)


def _add_cost(account: Account, row: Completion, paid: PaidReply) -> None:
    usage = paid.reply.usage
    for counters in (row, account):
        counters.prompt_tokens += usage.prompt
        counters.cached_tokens += usage.cached
        counters.completion_tokens += usage.completion
        counters.cost_usd += paid.cost_usd
        counters.thought_tokens += usage.thought
        counters.thought_usd += paid.thought_usd
    # A refusal without tokens is free. Counted as an answer, it would lower the mean cost of the answers.
    row.answers += usage.prompt + usage.completion > 0
    account.requests += 1
    account.simulated = account.simulated or paid.reply.simulated


def _store_reply(row: Completion, paid: PaidReply) -> None:
    reply = paid.reply
    row.status, row.remote_batch_id = "done", None
    row.text, row.refusal = storable(reply.text), storable(reply.refusal)
    row.repairs = list(reply.repairs)
    row.thought, row.raw_text = storable(reply.thought or None), storable(reply.raw_text)
    row.finish_reason, row.served_model = reply.finish_reason, paid.served_model
    row.simulated, row.usage_estimated = reply.simulated, paid.usage_estimated
    row.finished_at = func.clock_timestamp()


def reply_of(row: Completion) -> Reply:
    """Return the stored reply of a completion that is done."""
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
