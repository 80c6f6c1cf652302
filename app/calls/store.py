"""All SQL of accounts and their completions."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Select, func, select, true, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.calls.costs import AnsweredCalls
from app.errors import not_found
from app.tables.accounts import Account, Completion, LostCall

TOKENS = Completion.prompt_tokens + Completion.completion_tokens


def account(session: Session, project_id: str, id: str) -> Account:
    """Return an account of the project. Raises a 404 for one that it does not have."""
    row = session.scalar(select(Account).where(Account.id == id, Account.project_id == project_id))
    if row is None:
        raise not_found("account", id)
    return row


def accounts(session: Session, project_id: str, filters: dict, limit: int, after: str | None) -> Sequence[Account]:
    """Return up to `limit + 1` accounts, newest first. `filters`: the values that columns must have, by name."""
    # Ids are UUIDv7 and sort by time, so that the id is both the order and the position of the next page.
    query = select(Account).where(Account.project_id == project_id).filter_by(**filters)
    query = query.order_by(Account.id.desc()).limit(limit + 1)
    return session.scalars(query.where(Account.id < after) if after else query).all()


def accounts_by_id(session: Session, ids: Sequence[str]) -> dict[str, Account]:
    """Return the accounts by id, read anew even if the session has them."""
    query = select(Account).where(Account.id.in_(ids)).execution_options(populate_existing=True)
    return {row.id: row for row in session.scalars(query)}


def lock_account(session: Session, id: str) -> Account | None:
    """Lock the account until the transaction ends and return it as it is then; None: there is none.

    Lock it after its job and before its completions: all code takes locks in this order, so that none deadlock.
    """
    # key_share: rows that refer to the account, such as new completions, can be inserted while it is locked.
    query = select(Account).where(Account.id == id).with_for_update(key_share=True)
    return session.scalar(query.execution_options(populate_existing=True))


def set_state(session: Session, id: str, state: str) -> None:
    """Set the state of the account: `open`, `ending` or `stopped`."""
    session.execute(update(Account).where(Account.id == id, Account.state != state).values(state=state))


def set_state_unless_locked(session: Session, id: str, state: str) -> None:
    """Set the state of the account, unless another transaction has the row locked; then nothing is changed."""
    # For a request of a user, who must not wait for a worker that hangs with the row locked.
    unlocked = select(Account.id).where(Account.id == id).with_for_update(key_share=True, skip_locked=True)
    session.execute(update(Account).where(Account.id.in_(unlocked)).values(state=state))


def lease_tokens(session: Session, table: type, ids: Sequence[str]) -> dict[str, int]:
    """Return the lease tokens of those rows of a leased table that a worker holds, by id."""
    query = select(table.id, table.lease_token).where(table.id.in_(ids), table.lease_owner.is_not(None))
    return {row.id: row.lease_token for row in session.execute(query)}


def lock_completions(session: Session, keys: Sequence[str]) -> dict[str, Completion]:
    """Lock the completions with these keys and return them by key."""
    # In the order of the key: two transactions that lock the same rows in two orders would deadlock.
    query = select(Completion).where(Completion.key.in_(keys)).order_by(Completion.key).with_for_update()
    return {row.key: row for row in session.scalars(query.execution_options(populate_existing=True))}


def lock_reserved_completions(session: Session, account_id: str) -> Sequence[Completion]:
    """Lock the completions of the account that hold a reservation, and return them."""
    # In the order of the key, as in lock_completions.
    query = select(Completion).where(Completion.account_id == account_id, Completion.reserved_tokens > 0)
    return session.scalars(query.order_by(Completion.key).with_for_update()).all()


def lost_calls(session: Session, keys: Sequence[str]) -> dict[tuple[str, int], LostCall]:
    """Return the lost tries of these requests, by key and number of the try."""
    if not keys:
        return {}
    query = select(LostCall).where(LostCall.key.in_(keys)).execution_options(populate_existing=True)
    return {(row.key, row.number): row for row in session.scalars(query)}


def lost_calls_of(session: Session, account_ids: Sequence[str]) -> Sequence[LostCall]:
    """Return all lost calls of the accounts, newest first."""
    query = select(LostCall).where(LostCall.account_id.in_(account_ids))
    return session.scalars(query.order_by(LostCall.created_at.desc(), LostCall.key, LostCall.number)).all()


def answered_by_step(session: Session, account_ids: Sequence[str]) -> list[AnsweredCalls]:
    """Return the sums of the answered calls, one item for each account and step."""
    totals = (func.sum(Completion.answers), func.sum(TOKENS), func.sum(Completion.cost_usd))
    query = select(Completion.account_id, Completion.step, *totals).where(
        Completion.account_id.in_(account_ids), Completion.answers > 0
    )
    rows = session.execute(query.group_by(Completion.account_id, Completion.step).order_by(Completion.step))
    return [AnsweredCalls(id, step, int(answers), int(tokens), cost) for id, step, answers, tokens, cost in rows]


def newest_cut_reply(session: Session, account_id: str) -> tuple[str, int | None] | None:
    """Return the step of the newest reply that was cut, and the token limit of its request; None: no reply was cut."""
    query = select(Completion.step, Completion.request).where(
        Completion.account_id == account_id, Completion.finish_reason == "length"
    )
    row = session.execute(query.order_by(Completion.finished_at.desc()).limit(1)).first()
    if row is None:
        return None
    # The name depends on the protocol and on the server.
    limits = (row.request.get(name) for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"))
    return row.step, next((limit for limit in limits if limit is not None), None)


def count_repairs(session: Session, account_id: str) -> dict[str, int]:
    """Return how many replies of the account needed each repair, by the name of the repair."""
    names = func.jsonb_array_elements_text(Completion.repairs).table_valued("name")
    query = select(names.c.name, func.count()).select_from(Completion).join(names, true())
    query = query.where(Completion.account_id == account_id).group_by(names.c.name).order_by(names.c.name)
    return dict(list(session.execute(query)))


def totals_by(session: Session, account_id: str, column: InstrumentedAttribute) -> list[dict]:
    """Return the sums of calls, tries, tokens and certain dollars of the account, grouped by a column of Completion."""
    sums = {
        "tries": Completion.tries,
        "prompt_tokens": Completion.prompt_tokens,
        "cached_tokens": Completion.cached_tokens,
        "completion_tokens": Completion.completion_tokens,
        "certain_usd": Completion.cost_usd,
    }
    totals = [func.sum(summed).label(name) for name, summed in sums.items()]
    query = select(column.label("name"), func.count().label("calls"), *totals)
    rows = session.execute(query.where(Completion.account_id == account_id).group_by(column).order_by(column))
    return [dict(row._mapping) for row in rows]


def lock_unsent_calls(session: Session, account_id: str, limit: int) -> Sequence[Completion]:
    """Lock the oldest deferred calls that are part of no remote batch yet, at most `limit`, and return them."""
    query = select(Completion).where(
        Completion.account_id == account_id, Completion.status == "waiting", Completion.remote_batch_id.is_(None)
    )
    return session.scalars(query.order_by(Completion.created_at, Completion.key).limit(limit).with_for_update()).all()


def unanswered_calls_of_remote(session: Session, remote_batch_id: str) -> Sequence[Completion]:
    """Return the calls of a remote batch that have no answer yet, also those of a job that has ended meanwhile."""
    query = select(Completion).where(Completion.remote_batch_id == remote_batch_id, Completion.status != "done")
    return session.scalars(query.order_by(Completion.key)).all()


def select_spending_by_unit(account_ids: Select) -> Select:
    """Return a query for (unit_id, requests, tokens, dollars): the sums of the calls of each unit of these accounts."""
    return (
        select(
            Completion.unit_id,
            func.sum(Completion.tries).label("requests"),
            func.sum(TOKENS).label("tokens"),
            func.sum(Completion.cost_usd).label("dollars"),
        )
        .where(Completion.account_id.in_(account_ids))
        .group_by(Completion.unit_id)
    )


def select_unanswered(unit_id: ColumnElement[str]) -> Select:
    """Return a query for the keys of the unit's requests that have no answer yet and are not given up."""
    return select(Completion.key).where(Completion.unit_id == unit_id, Completion.status.in_(("waiting", "sent")))


def mean_latency(session: Session, account_ids: Select) -> float:
    """Return the mean seconds from sending a call to storing its reply, over the calls that needed one try."""
    took = func.extract("epoch", Completion.finished_at - Completion.created_at)
    query = select(func.avg(took)).where(
        Completion.account_id.in_(account_ids), Completion.status == "done", Completion.tries == 1
    )
    return float(session.scalar(query) or 0)


def completions(session: Session, keys: Sequence[str]) -> Sequence[Completion]:
    """Return the completions with these keys, oldest first."""
    return session.scalars(select(Completion).where(Completion.key.in_(keys)).order_by(Completion.created_at)).all()


def load_tries(session: Session, keys: Sequence[str]) -> dict[str, int]:
    """Return the number of tries of each completion, by key."""
    query = select(Completion.key, Completion.tries).where(Completion.key.in_(keys))
    return {row.key: row.tries for row in session.execute(query)}
