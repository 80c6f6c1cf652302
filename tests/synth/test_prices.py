"""What a call costs."""

from decimal import Decimal

from app.synth.prices import Prices
from app.synth.types import Prompt, Usage

PRICES = Prices(Decimal("0.15"), Decimal("0.075"), Decimal("0.60"))
PROMPT = Prompt("instructions", "p", "s", "u", {"title": "answer", "type": "object", "properties": {}}, 0.5, 50, "t")


def test_cost_is_decimal_and_never_below_the_price():
    assert PRICES.cost(Usage(1_000_000, 0, 0)) == Decimal("0.15")
    assert PRICES.cost(Usage(1_000_000, 1_000_000, 0)) == Decimal("0.075")
    assert PRICES.cost(Usage(1, 0, 0)) == Decimal("0.000000150")
    tokens, dollars = PRICES.worst_case(PROMPT)
    assert tokens >= 50 + 2 and dollars >= PRICES.cost(Usage(2, 0, 50))
