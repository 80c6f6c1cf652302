"""Response bodies of accounts."""

from decimal import Decimal

from pydantic import Field

from app.api.schemas import SIMULATED_NOTE, Time, View
from app.calls.costs import Estimate
from app.tables.accounts import Account, LostCall


def money(value: Decimal | None) -> str | None:
    """Return dollars as decimal text without trailing zeros, since a JSON number would be rounded."""
    return None if value is None else f"{value:.9f}".rstrip("0").rstrip(".")


class UsageView(View):
    """What an account has spent.

    The answers to `unknown_requests` never came: the teacher may have billed them. `requests` counts them, too.
    `unknown_tokens` and `possible_usd` estimate their tokens and cost.
    """

    requests: int
    unknown_requests: int
    in_flight: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    thought_tokens: int = Field(description="The part of completion_tokens that went into thoughts.")
    thought_usd: str = Field(description="The part of certain_usd that went into thoughts.")
    unknown_tokens: int
    cost_usd: str = Field(description="certain_usd and possible_usd together.")
    certain_usd: str = Field(description="Of calls that were answered: never more than the teacher's bill.")
    possible_usd: str = Field(description="Of calls whose answer never came, at the mean of the answered ones.")
    held_usd: str = Field(
        description="What calls in flight and unanswered ones hold of max_usd, at their worst. Until holds are "
        "released certain_usd and held_usd together are never less than the teacher's bill, but for a lost call that "
        "was billed for more output than the answered try of the same request."
    )


class AccountView(View):
    """An account: the ceilings of the teacher calls of one job, and what they have cost."""

    id: str
    owner_type: str = Field(description="The type of the job: run or judgement.")
    owner_id: str
    dataset_id: str | None
    state: str = Field(description="open; ending: its job ends as soon as calls in flight are back; stopped.")
    max_requests: int | None
    max_tokens: int | None
    max_usd: str | None
    usage: UsageView
    simulated: bool
    note: str | None
    created_at: Time


class SpendingView(View):
    """The calls of one step, teacher or operation. `calls` counts each request once, `tries` its repetitions, too."""

    name: str | None
    calls: int
    tries: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    unknown_requests: int
    unknown_tokens: int
    cost_usd: str
    certain_usd: str
    possible_usd: str


class LostCallView(View):
    """A try whose answer never came. `state`: unsettled; priced by the answer to another try; released."""

    key: str
    number: int = Field(description="Which try of the request it was.")
    step: str
    operation: str | None
    teacher: str
    state: str
    worst_tokens: int
    worst_usd: str
    held_tokens: int
    held_usd: str
    estimated_tokens: int
    estimated_usd: str
    created_at: Time


class AccountReport(View):
    """Calls, tokens and dollars by step, teacher and operation; and the lost calls, newest first, up to 200."""

    account_id: str
    usage: UsageView
    steps: list[SpendingView]
    teachers: list[SpendingView]
    operations: list[SpendingView]
    lost_calls: list[LostCallView]
    repairs: dict[str, int] = Field(description="Replies whose JSON had to be repaired, by the kind of the fault.")


def usage_view(account: Account, possible: Estimate) -> UsageView:
    """Return what the account has spent. `possible`: the estimate of its lost calls."""
    return UsageView(
        requests=account.requests + account.lost_requests,
        unknown_requests=account.lost_requests,
        in_flight=account.reserved_requests,
        prompt_tokens=account.prompt_tokens,
        cached_tokens=account.cached_tokens,
        completion_tokens=account.completion_tokens,
        thought_tokens=account.thought_tokens,
        thought_usd=money(account.thought_usd),
        unknown_tokens=possible.tokens,
        cost_usd=money(account.cost_usd + possible.usd),
        certain_usd=money(account.cost_usd),
        possible_usd=money(possible.usd),
        held_usd=money(account.held_usd + account.reserved_usd),
    )


# Fields of the view that are not columns of the account, or not in the column's form.
_DERIVED = {"usage", "max_usd", "note"}


def account_view(account: Account, possible: Estimate) -> AccountView:
    """Return the response body of an account. `possible`: the estimate of its lost calls."""
    return AccountView(
        **{name: getattr(account, name) for name in AccountView.model_fields if name not in _DERIVED},
        usage=usage_view(account, possible),
        max_usd=money(account.max_usd),
        note=SIMULATED_NOTE if account.simulated else None,
    )


def lost_call_view(lost: LostCall, estimate: Estimate) -> LostCallView:
    """Return the response body of a lost call with the estimate of its tokens and cost."""
    derived = {"worst_usd", "held_usd", "estimated_tokens", "estimated_usd"}
    return LostCallView(
        **{name: getattr(lost, name) for name in LostCallView.model_fields if name not in derived},
        worst_usd=money(lost.worst_usd),
        held_usd=money(lost.held_usd),
        estimated_tokens=estimate.tokens,
        estimated_usd=money(estimate.usd),
    )
