"""Accounts: open one for a job, show what it has spent, and release the holds of lost calls."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from decimal import Decimal

from sqlalchemy.orm import InstrumentedAttribute, Session

from app.access.service import Caller
from app.calls import store
from app.calls.costs import Estimate, Estimator
from app.calls.lost_calls import lower_hold
from app.calls.schemas import (
    AccountReport,
    AccountView,
    LostCallView,
    SpendingView,
    account_view,
    lost_call_view,
    money,
    usage_view,
)
from app.persistence.ids import new_id
from app.tables.accounts import Account, Completion, LostCall

# The report is one answer without pages; its sums cover all lost calls.
MAX_LOST_CALLS_SHOWN = 200


def open_account(
    session: Session, project_id: str, dataset_id: str | None, owner: tuple[str, str], ceilings: dict
) -> Account:
    """Add the account of a new job.

    Args:
        session: The transaction that adds the job.
        project_id: The project of the job.
        dataset_id: The dataset to which the replies belong; they are deleted with it.
        owner: The type and the id of the job.
        ceilings: `max_requests`, `max_tokens` and `max_usd` (dollars); one that is missing or None is no ceiling.
    """
    owner_type, owner_id = owner
    account = Account(
        id=new_id("acc"),
        project_id=project_id,
        dataset_id=dataset_id,
        owner_type=owner_type,
        owner_id=owner_id,
        max_requests=ceilings.get("max_requests"),
        max_tokens=ceilings.get("max_tokens"),
        # By its text: Decimal(0.1) would be the binary fraction next to it.
        max_usd=None if ceilings.get("max_usd") is None else Decimal(str(ceilings["max_usd"])),
    )
    session.add(account)
    session.flush()
    return account


def views_by_id(session: Session, account_ids: Sequence[str]) -> dict[str, AccountView]:
    """Return the response bodies of the accounts by id, read anew from the database."""
    return views(session, list(store.accounts_by_id(session, account_ids).values()))


def views(session: Session, accounts: Sequence[Account]) -> dict[str, AccountView]:
    """Return the response bodies of the accounts, by id."""
    possible = _possible(session, accounts)
    return {account.id: account_view(account, possible[account.id]) for account in accounts}


def show(session: Session, caller: Caller, id: str) -> AccountView:
    """Return the response body of one account. Raises a 404 for an account that the project does not have."""
    account = store.account(session, caller.project_id, id)
    return views(session, [account])[id]


def release(session: Session, caller: Caller, id: str) -> AccountView:
    """Lower the hold of each lost call that still holds its worst case to its estimate.

    Before any call was answered there is no estimate: the holds stay, and a later release lowers them. Raises a 404
    for an account that the project does not have.
    """
    # Checks that the account belongs to the caller's project; the lock is taken by the id alone.
    store.account(session, caller.project_id, id)
    account = store.lock_account(session, id)
    estimator, lost_calls = _estimator(session, id), store.lost_calls_of(session, [id])
    for lost in lost_calls:
        if lost.state == "unsettled" and estimator.has_mean:
            estimate = estimator.estimate(lost)
            lower_hold(account, lost, "released", estimate.tokens, estimate.usd)
    session.flush()
    return account_view(account, estimator.total(lost_calls))


def report(session: Session, account: Account) -> AccountReport:
    """Return what the account has spent by step, teacher and operation, and its newest lost calls."""
    estimator = _estimator(session, account.id)
    lost_calls = store.lost_calls_of(session, [account.id])

    def by(column: InstrumentedAttribute, of_lost: Callable[[LostCall], str | None]) -> list[SpendingView]:
        return _spending(store.totals_by(session, account.id, column), lost_calls, of_lost, estimator)

    return AccountReport(
        account_id=account.id,
        usage=usage_view(account, estimator.total(lost_calls)),
        steps=by(Completion.step, lambda lost: lost.step),
        teachers=by(Completion.teacher, lambda lost: lost.teacher),
        operations=by(Completion.operation, lambda lost: lost.operation),
        repairs=store.count_repairs(session, account.id),
        lost_calls=[_show_lost(lost, estimator) for lost in lost_calls[:MAX_LOST_CALLS_SHOWN]],
    )


def _show_lost(lost: LostCall, estimator: Estimator) -> LostCallView:
    return lost_call_view(lost, estimator.estimate(lost))


def _spending(
    totals: list[dict], lost_calls: Sequence[LostCall], of_lost: Callable[[LostCall], str | None], estimator: Estimator
) -> list[SpendingView]:
    """Add the estimate of the lost calls to the certain totals of each group.

    `of_lost` returns the group of a lost call.
    """
    groups: defaultdict[str | None, list[LostCall]] = defaultdict(list)
    for lost in lost_calls:
        groups[of_lost(lost)].append(lost)
    spending = []
    for group in totals:
        lost_of_group = groups[group["name"]]
        estimate, certain = estimator.total(lost_of_group), group["certain_usd"]
        costs = {"certain_usd": certain, "possible_usd": estimate.usd, "cost_usd": certain + estimate.usd}
        fields = group | {name: money(cost) for name, cost in costs.items()}
        spending.append(SpendingView(**fields, unknown_requests=len(lost_of_group), unknown_tokens=estimate.tokens))
    return spending


def _estimator(session: Session, account_id: str) -> Estimator:
    return Estimator(store.answered_by_step(session, [account_id]))


def _possible(session: Session, accounts: Sequence[Account]) -> defaultdict[str, Estimate]:
    """Return the estimate of each account's lost calls, by its id. Most accounts have none and need no query."""
    ids = [account.id for account in accounts if account.lost_requests]
    possible: defaultdict[str, Estimate] = defaultdict(Estimate)
    if not ids:
        return possible
    answered = defaultdict(list)
    for item in store.answered_by_step(session, ids):
        answered[item.account_id].append(item)
    estimators = {id: Estimator(answered[id]) for id in ids}
    for lost in store.lost_calls_of(session, ids):
        possible[lost.account_id] += estimators[lost.account_id].estimate(lost)
    return possible
