"""What lost calls probably cost: the mean of the answered calls of their step."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal

from app.tables.accounts import LostCall

# The scale of the money columns: a billionth of a dollar.
PLACES = Decimal("0.000000001")


@dataclass(frozen=True)
class AnsweredCalls:
    """The answered calls of one step of an account, added up."""

    account_id: str
    step: str
    answers: int
    tokens: int
    cost_usd: Decimal


@dataclass(frozen=True)
class Estimate:
    """The estimated tokens and dollars of one lost call, or of several together."""

    tokens: int = 0
    usd: Decimal = Decimal(0)

    def __add__(self, other: "Estimate") -> "Estimate":
        return Estimate(self.tokens + other.tokens, self.usd + other.usd)


class Estimator:
    """Estimates what lost calls of one account cost.

    Args:
        answered: The answered calls of the account, one item for each of its steps.
    """

    def __init__(self, answered: Sequence[AnsweredCalls]):
        self._by_step = {item.step: _mean([item]) for item in answered}
        self._overall = _mean(answered)

    @property
    def has_mean(self) -> bool:
        """Whether any call was answered."""
        return self._overall is not None

    def estimate(self, lost: LostCall) -> Estimate:
        """Return the estimate of one lost call, never more than it holds.

        Returns:
            The hold itself when the call was priced or released; else the mean of the answered calls of its step, of
            all answered calls where the step has none, or the hold where no call was answered.
        """
        # By step: the replies of a method's steps differ in length, for example an instruction and its answer.
        mean = self._by_step.get(lost.step, self._overall)
        if lost.state != "unsettled" or mean is None:
            return Estimate(lost.held_tokens, lost.held_usd)
        return Estimate(min(lost.held_tokens, mean.tokens), min(lost.held_usd, mean.usd))

    def total(self, lost_calls: Iterable[LostCall]) -> Estimate:
        """Return the sum of the estimates of these calls."""
        return sum(map(self.estimate, lost_calls), Estimate())


def _mean(answered: Sequence[AnsweredCalls]) -> Estimate | None:
    answers = sum(item.answers for item in answered)
    if not answers:
        return None
    cost = sum(item.cost_usd for item in answered) / answers
    return Estimate(round(sum(item.tokens for item in answered) / answers), cost.quantize(PLACES, ROUND_UP))
