"""What lost calls probably cost: the mean of the answered calls of their step."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal

from app.tables.accounts import LostCall

PLACES = Decimal("0.000000001")


@dataclass(frozen=True)
class Answered:
    """The answered calls of one step of an account, added up."""

    account_id: str
    step: str
    answers: int
    tokens: int
    cost_usd: Decimal


@dataclass(frozen=True)
class Estimate:
    """Of one lost call, or of several together."""

    tokens: int = 0
    usd: Decimal = Decimal(0)

    def __add__(self, other: "Estimate") -> "Estimate":
        return Estimate(self.tokens + other.tokens, self.usd + other.usd)


class Estimator:
    """`answered`: of one account, one item for each of its steps."""

    def __init__(self, answered: Sequence[Answered]):
        self._by_step = {item.step: _mean([item]) for item in answered}
        self._overall = _mean(answered)

    @property
    def has_mean(self) -> bool:
        """Whether any call was answered."""
        return self._overall is not None

    def of(self, lost: LostCall) -> Estimate:
        """What it holds, once that was settled in some way; else the mean, and never more than its worst case."""
        mean = self._by_step.get(lost.step, self._overall)
        if lost.state != "unsettled" or mean is None:
            return Estimate(lost.held_tokens, lost.held_usd)
        return Estimate(min(lost.held_tokens, mean.tokens), min(lost.held_usd, mean.usd))

    def total(self, lost_calls: Iterable[LostCall]) -> Estimate:
        return sum(map(self.of, lost_calls), Estimate())


def _mean(answered: Sequence[Answered]) -> Estimate | None:
    answers = sum(item.answers for item in answered)
    if not answers:
        return None
    cost = sum(item.cost_usd for item in answered) / answers
    return Estimate(round(sum(item.tokens for item in answered) / answers), cost.quantize(PLACES, ROUND_UP))
