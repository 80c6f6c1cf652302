"""Reservations: the worst case of a call in flight, on its completion and, summed up, on the account.

The callers of these functions hold the account and the completion locked.
"""

import math
from decimal import ROUND_UP, Decimal

from app.calls.costs import PLACES
from app.calls.ledger_entries import AccountEnding, AccountStopped, BudgetContention, Call, CeilingReached
from app.tables.accounts import Account, Completion

# The highest excess over a worst case counts this many times for the calls that follow it.
EXCESS_MARGIN = 1.25


def find_refusal(account: Account, call: Call) -> Exception | None:
    """Return why the account can't pay for the call now; None: it can.

    Returns:
        AccountStopped or AccountEnding, by the state of the account; CeilingReached when the worst case of the call
        does not fit under a ceiling; BudgetContention instead when calls are in flight, whose reservations may be
        released for less than they hold.
    """
    if account.state != "open":
        return AccountEnding(account.id) if account.state == "ending" else AccountStopped(account.id)
    # Under the account's lock, in the transaction that reserves: two workers can't both fit into the same room (ADR 2).
    for name, sum_with_call in _sums_with(account, call).items():
        ceiling = getattr(account, name)
        if ceiling is not None and sum_with_call > ceiling:
            return BudgetContention(account.id) if account.reserved_requests else CeilingReached(name)
    return None


def _sums_with(account: Account, call: Call) -> dict[str, int | Decimal]:
    """What would be certain, held and reserved with the call, by the name of the ceiling that limits it.

    Once a reply has used more than its worst case, each call in flight may do the same.
    """
    calls = account.reserved_requests + 1
    tokens = account.prompt_tokens + account.completion_tokens + account.held_tokens + calls * account.excess_tokens
    dollars = account.cost_usd + account.held_usd + calls * account.excess_usd
    return {
        "max_requests": account.requests + account.lost_requests + calls,
        "max_usd": dollars + account.reserved_usd + call.worst_usd,
        "max_tokens": tokens + account.reserved_tokens + call.worst_tokens,
    }


def learn_excess(account: Account, reserved: tuple[int, Decimal], tokens: int, cost: Decimal) -> None:
    """Remember by how much an answer exceeded its worst case, with a margin.

    A teacher that ignores its limit does so again, and not always by the same amount.

    Args:
        account: The account, locked.
        reserved: The tokens and dollars that were reserved for the call.
        tokens: The tokens that it took.
        cost: The dollars that it took.
    """
    reserved_tokens, reserved_usd = reserved
    account.excess_tokens = max(account.excess_tokens, math.ceil((tokens - reserved_tokens) * EXCESS_MARGIN))
    excess_usd = (cost - reserved_usd) * Decimal(EXCESS_MARGIN)
    account.excess_usd = max(account.excess_usd, excess_usd.quantize(PLACES, ROUND_UP))


def reserve(account: Account, completion: Completion, call: Call) -> None:
    """Begin the next try of the completion: reserve the worst case of the call."""
    completion.step, completion.operation, completion.request = call.step, call.operation, call.request
    completion.teacher, completion.model = call.teacher, call.model
    completion.status, completion.tries = "waiting" if call.deferred else "sent", completion.tries + 1
    completion.reserved_tokens, completion.reserved_usd = call.worst_tokens, call.worst_usd
    account.reserved_requests += 1
    account.reserved_tokens += call.worst_tokens
    account.reserved_usd += call.worst_usd


def release(account: Account, completion: Completion) -> None:
    """Remove the reservation of the completion's try in flight."""
    account.reserved_requests -= 1
    account.reserved_tokens -= completion.reserved_tokens
    account.reserved_usd -= completion.reserved_usd
    completion.reserved_tokens, completion.reserved_usd = 0, Decimal(0)
