"""Lost calls: tries whose answer never came, and what they hold of the account's ceilings.

The callers of these functions hold the account and the completions locked.
"""

from decimal import ROUND_UP, Decimal

from sqlalchemy.orm import Session

from app.calls import store
from app.calls.costs import PLACES
from app.tables.accounts import Account, Completion, LostCall


def lower_hold(account: Account, lost: LostCall, state: str, tokens: int, cost: Decimal) -> None:
    """Lower the hold of a lost call to `tokens` and `cost` (dollars). A hold never rises.

    Args:
        account: The account of the call, locked.
        lost: The lost call.
        state: The new state of the lost call: `priced` or `released`.
        tokens: The upper bound of the hold, in tokens.
        cost: The upper bound of the hold, in dollars.
    """
    # Rounded up: what is held must not be less than what may be on the bill.
    tokens, cost = min(lost.held_tokens, tokens), min(lost.held_usd, cost.quantize(PLACES, ROUND_UP))
    account.held_tokens -= lost.held_tokens - tokens
    account.held_usd -= lost.held_usd - cost
    lost.state, lost.held_tokens, lost.held_usd = state, tokens, cost


class LostCalls:
    """The lost calls of the completions that one posting is about."""

    def __init__(self, session: Session, account: Account, completions: dict[str, Completion]):
        self._session, self._account = session, account
        # Most completions have lost no try, and need no query.
        keys = [completion.key for completion in completions.values() if completion.lost_tries]
        self._by_try = store.lost_calls(session, keys)

    def add(self, completion: Completion, tokens: int, cost: Decimal) -> None:
        """Record that the newest try of the completion is lost. It holds its worst case, `tokens` and `cost`."""
        lost = _new_lost_call(completion, tokens, cost)
        self._by_try[completion.key, completion.tries] = lost
        self._session.add(lost)
        # The answer may be a later entry of the same posting: it deletes the row, which must exist by then.
        self._session.flush()
        completion.lost_tries += 1
        self._account.lost_requests += 1
        self._account.held_tokens += tokens
        self._account.held_usd += cost
        self.price(completion)

    def remove(self, completion: Completion, number: int) -> bool:
        """Release the hold of a try whose outcome is known now. False: this try was not lost."""
        lost = self._by_try.pop((completion.key, number), None)
        if lost is None:
            return False
        self._account.lost_requests -= 1
        self._account.held_tokens -= lost.held_tokens
        self._account.held_usd -= lost.held_usd
        completion.lost_tries -= 1
        self._session.delete(lost)
        return True

    def price(self, completion: Completion) -> None:
        """Lower the holds of the completion's lost tries to the mean cost of its answered tries, if it has any."""
        if not completion.answers:
            return
        tokens = (completion.prompt_tokens + completion.completion_tokens) // completion.answers
        for lost in self._by_try.values():
            # A call that is priced already keeps its price: the answer that set it was to the same prompt.
            if lost.key == completion.key and lost.state in ("unsettled", "released"):
                lower_hold(self._account, lost, "priced", tokens, completion.cost_usd / completion.answers)


def _new_lost_call(completion: Completion, tokens: int, cost: Decimal) -> LostCall:
    return LostCall(
        key=completion.key,
        number=completion.tries,
        account_id=completion.account_id,
        step=completion.step,
        operation=completion.operation,
        teacher=completion.teacher,
        state="unsettled",
        worst_tokens=tokens,
        worst_usd=cost,
        held_tokens=tokens,
        held_usd=cost,
    )
