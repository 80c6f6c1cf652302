"""Reservations: the worst case of a call in flight, on its completion and, summed up, on the account.

The callers of these functions hold the account and the completion locked.
"""

from decimal import Decimal

from app.calls.ledger_entries import AccountEnding, AccountStopped, BudgetContention, Call, CeilingReached
from app.tables.accounts import Account, Completion


def find_refusal(account: Account, call: Call) -> Exception | None:
    """Return why the account can't pay for the call now; None: it can.

    Returns:
        AccountStopped or AccountEnding, by the state of the account; CeilingReached when the worst case of the call
        does not fit under a ceiling; BudgetContention instead when calls are in flight, whose reservations may be
        released for less than they hold.
    """
    if account.state != "open":
        return AccountEnding(account.id) if account.state == "ending" else AccountStopped(account.id)
    for name, sum_with_call in _sums_with(account, call).items():
        ceiling = getattr(account, name)
        if ceiling is not None and sum_with_call > ceiling:
            return BudgetContention(account.id) if account.reserved_requests else CeilingReached(name)
    return None


def _sums_with(account: Account, call: Call) -> dict[str, int | Decimal]:
    """What would be certain, held and reserved with the call, by the name of the ceiling that limits it."""
    tokens = account.prompt_tokens + account.completion_tokens + account.held_tokens
    return {
        "max_requests": account.requests + account.lost_requests + account.reserved_requests + 1,
        "max_usd": account.cost_usd + account.held_usd + account.reserved_usd + call.worst_usd,
        "max_tokens": tokens + account.reserved_tokens + call.worst_tokens,
    }


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
