"""Accounts: opened with a job, shown with what was spent, released by the operator."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from decimal import Decimal

from sqlalchemy.orm import InstrumentedAttribute, Session

from app.access.service import Caller
from app.calls import ledger, store
from app.calls.costs import Estimate, Estimator
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

MAX_LOST_CALLS_SHOWN = 200


def open_account(
    session: Session, project_id: str, dataset_id: str | None, owner: tuple[str, str], ceilings: dict
) -> Account:
    """An account for the job `owner` (type and id). `ceilings`: max_requests, max_tokens, max_usd; None: no ceiling."""
    owner_type, owner_id = owner
    account = Account(
        id=new_id("acc"),
        project_id=project_id,
        dataset_id=dataset_id,
        owner_type=owner_type,
        owner_id=owner_id,
        max_requests=ceilings.get("max_requests"),
        max_tokens=ceilings.get("max_tokens"),
        max_usd=None if ceilings.get("max_usd") is None else Decimal(str(ceilings["max_usd"])),
    )
    session.add(account)
    session.flush()
    return account


def views_by_id(session: Session, account_ids: Sequence[str]) -> dict[str, AccountView]:
    """Each account as it is now, with what it has spent."""
    return views(session, list(store.accounts_by_id(session, account_ids).values()))


def views(session: Session, accounts: Sequence[Account]) -> dict[str, AccountView]:
    possible = _possible(session, accounts)
    return {account.id: account_view(account, possible[account.id]) for account in accounts}


def show(session: Session, caller: Caller, id: str) -> AccountView:
    account = store.account(session, caller.project_id, id)
    return views(session, [account])[id]


def release(session: Session, caller: Caller, id: str) -> AccountView:
    """Let the hold of each lost call that is not settled fall to its estimate.

    Before any call was answered there is nothing to estimate by: the holds stay, and a later release lowers them.
    """
    store.account(session, caller.project_id, id)
    account = store.locked_account(session, id)
    estimator, lost_calls = _estimator(session, id), store.lost_calls_of(session, [id])
    for lost in lost_calls:
        if lost.state == "unsettled" and estimator.has_mean:
            estimate = estimator.of(lost)
            ledger.hold(account, lost, "released", estimate.tokens, estimate.usd)
    session.flush()
    return account_view(account, estimator.total(lost_calls))


def report(session: Session, account: Account) -> AccountReport:
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
    return lost_call_view(lost, estimator.of(lost))


def _spending(
    totals: list[dict], lost_calls: Sequence[LostCall], of_lost: Callable[[LostCall], str | None], estimator: Estimator
) -> list[SpendingView]:
    """Certain totals with what was possibly spent beside it, group by group."""
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
    """By account, what its lost calls probably cost. Most accounts have none, and are not looked into."""
    ids = [account.id for account in accounts if account.lost_requests]
    possible: defaultdict[str, Estimate] = defaultdict(Estimate)
    if not ids:
        return possible
    answered = defaultdict(list)
    for item in store.answered_by_step(session, ids):
        answered[item.account_id].append(item)
    estimators = {id: Estimator(answered[id]) for id in ids}
    for lost in store.lost_calls_of(session, ids):
        possible[lost.account_id] += estimators[lost.account_id].of(lost)
    return possible
