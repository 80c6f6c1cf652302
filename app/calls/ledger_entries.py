"""The entries of the ledger, the calls that they are about, and the errors of a call that was not made."""

import hashlib
import json
from dataclasses import dataclass
from decimal import Decimal

from app.jobs.leases import Claim
from app.synth.types import CallsEnded, Reply

# Part of every key. A change of what the key covers takes a new version, so that no old reply answers a new request.
KEY_VERSION = 1


class AccountStopped(Exception):
    """The account takes no new calls now: its job was paused or cancelled, or has ended."""


class AccountEnding(CallsEnded):
    """The job of the account is about to end, and makes no further call."""


class CeilingReached(CallsEnded):
    """The worst case of the next call could exceed a ceiling of the account.

    Attributes:
        name: The ceiling: `max_requests`, `max_tokens` or `max_usd`.
    """

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name


class BudgetContention(Exception):
    """The reservations of calls in flight leave no room for the call; some of them may be released soon."""


class CallDeferred(Exception):
    """The call waits for a remote batch. Its answer is stored when its unit of work is tried again."""


@dataclass(frozen=True)
class Call:
    """One teacher call before it is made.

    Attributes:
        account_id: The account that pays for it.
        unit_id: The unit of work that needs the answer, for example a batch of a run.
        step: The step of the method, by which costs are reported and estimated.
        teacher: The configured name of the teacher.
        model: The model that the request names.
        key: The key of the completion, from `completion_key`.
        request: The body of the request.
        worst_tokens: The most tokens that the call can use, prompt and answer together.
        worst_usd: The most dollars that it can cost.
        operation: The operation of the method, such as one of Evol-Instruct; None where the method has none.
        deferred: Whether the call is sent with a remote batch and not by itself.
    """

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
class PaidReply:
    """The reply to a call that was served, and its cost.

    Attributes:
        reply: The reply with its usage.
        served_model: The model that the teacher named in its answer.
        usage_estimated: Whether the teacher reported no usage, and the tokens are an estimate.
        cost_usd: The cost in dollars.
        thought_usd: The part of `cost_usd` that the model spent on its thought.
    """

    reply: Reply
    served_model: str
    usage_estimated: bool
    cost_usd: Decimal
    thought_usd: Decimal = Decimal(0)


@dataclass(frozen=True)
class Reserve:
    """Reserve the worst case of a call, for a unit of work on which the poster holds the claim."""

    call: Call
    claim: Claim


@dataclass(frozen=True)
class PostAnswer:
    """Try number `tries` of the request was answered."""

    key: str
    tries: int
    paid: PaidReply


@dataclass(frozen=True)
class PostFailure:
    """Try number `tries` of the request failed.

    Attributes:
        key: The key of the completion.
        tries: The number of the try, from 1.
        unknown: Whether the try may have been served and billed all the same.
    """

    key: str
    tries: int
    unknown: bool


Entry = Reserve | PostAnswer | PostFailure


def completion_key(owner_id: str, unit_id: str, position: str, base_url: str, request: dict) -> str:
    """Return the key under which the reply to a request is stored.

    Args:
        owner_id: The job.
        unit_id: The unit of work of the job.
        position: The position of the request inside the unit.
        base_url: The address of the teacher, or its function.
        request: The body of the request.

    Returns:
        The SHA-256 of the canonical JSON of all arguments, in hexadecimal.
    """
    parts = [KEY_VERSION, owner_id, unit_id, position, base_url, request]
    # Sorted keys: two processes may build the same request in another order, and must get the same key.
    canonical = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()
