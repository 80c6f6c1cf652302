"""The cost of a call in US dollars, as decimals of nine places, from prices per million tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal

from app.synth.types import Prompt, Usage

# Decimals, since a sum of many small floats would drift from the bill.
_MILLION = Decimal(1_000_000)
_NANODOLLAR = Decimal("0.000000001")


@dataclass(frozen=True)
class Prices:
    """US dollars per million tokens: of the prompt, of its cached part, and of the completion."""

    prompt: Decimal
    cached: Decimal
    completion: Decimal

    @classmethod
    def per_million(cls, prompt: float | str | Decimal, completion: float | str | Decimal, cached=None) -> "Prices":
        """Build prices from dollars per million tokens.

        Args:
            prompt: of tokens of the prompt.
            completion: of tokens of the reply.
            cached: of tokens of the prompt that the provider had cached; the price of the prompt by default.
        """
        return cls(*(Decimal(str(price)) for price in (prompt, prompt if cached is None else cached, completion)))

    def cost(self, usage: Usage) -> Decimal:
        """Return dollars, rounded up to nine places. Cached tokens of the prompt have their own price."""
        # A server may count more cached tokens than tokens of the prompt, which must not lower the cost.
        uncached = max(0, usage.prompt - usage.cached)
        micro = uncached * self.prompt + usage.cached * self.cached + usage.completion * self.completion
        return (micro / _MILLION).quantize(_NANODOLLAR, ROUND_UP)

    def thought_cost(self, usage: Usage) -> Decimal:
        """Return the part of the cost that the thought took."""
        return (usage.thought * self.completion / _MILLION).quantize(_NANODOLLAR, ROUND_UP)

    def times(self, share: Decimal) -> "Prices":
        """Return the same prices at a discount."""
        return Prices(self.prompt * share, self.cached * share, self.completion * share)

    def worst_case(self, prompt: Prompt) -> tuple[int, Decimal]:
        """Return (tokens, dollars) that the call can't exceed: nothing is cached, and the reply has `max_tokens`."""
        usage = Usage(prompt=max_prompt_tokens(prompt), completion=prompt.max_tokens)
        return usage.prompt + usage.completion, self.cost(usage)


def max_prompt_tokens(prompt: Prompt) -> int:
    """Return an upper bound of the prompt's tokens without its tokeniser.

    A byte-level tokeniser makes at most one token per byte. 64 tokens are added for the chat template.
    """
    # The description in tags is the longest, whatever form the teacher is asked for in the end.
    text = sum(len(message["content"].encode("utf-8")) for message in prompt.messages("tagged"))
    return text + len(str(prompt.schema)) + 64


def estimate(messages: Sequence[dict], text: str) -> Usage:
    """Estimate the tokens of a call whose server gave no usage, at four bytes a token.

    Args:
        messages: the request, as chat messages.
        text: the reply.
    """
    prompt_bytes = sum(len(message["content"].encode("utf-8")) for message in messages)
    return Usage(prompt=prompt_bytes // 4 + 8, completion=len(text.encode("utf-8", "surrogatepass")) // 4 + 1)
