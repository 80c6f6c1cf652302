"""What a call costs, in decimals: US dollars per million tokens, to nine places."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal

from app.synth.types import Prompt, Usage

_MILLION = Decimal(1_000_000)
_PLACES = Decimal("0.000000001")


@dataclass(frozen=True)
class Prices:
    """US dollars per million tokens: of the prompt, of its cached part, and of the completion."""

    prompt: Decimal
    cached: Decimal
    completion: Decimal

    @classmethod
    def per_million(cls, prompt: float | str | Decimal, completion: float | str | Decimal, cached=None) -> "Prices":
        """Dollars per million tokens; what is cached costs as much as the rest of the prompt unless given."""
        return cls(*(Decimal(str(price)) for price in (prompt, prompt if cached is None else cached, completion)))

    def cost(self, usage: Usage) -> Decimal:
        """Cached prompt tokens at their own price, the rest of the prompt at the full one. Rounded up."""
        fresh = max(0, usage.prompt - usage.cached)
        micro = fresh * self.prompt + usage.cached * self.cached + usage.completion * self.completion
        return (micro / _MILLION).quantize(_PLACES, ROUND_UP)

    def thought_cost(self, usage: Usage) -> Decimal:
        """The part of the cost that the thought took."""
        return (usage.thought * self.completion / _MILLION).quantize(_PLACES, ROUND_UP)

    def times(self, share: Decimal) -> "Prices":
        """The same prices at a discount."""
        return Prices(self.prompt * share, self.cached * share, self.completion * share)

    def worst(self, prompt: Prompt) -> tuple[int, Decimal]:
        """(tokens, dollars) that the call can't exceed: nothing cached, the whole allowance written."""
        usage = Usage(prompt=most_tokens(prompt), completion=prompt.max_tokens)
        return usage.prompt + usage.completion, self.cost(usage)


def most_tokens(prompt: Prompt) -> int:
    """An upper bound of the prompt's tokens without its tokeniser.

    No byte-level tokeniser makes more tokens than bytes; the rest is the frame of the chat template
    and of the schema.
    """
    # Tags take more words than JSON does, whatever the teacher is asked for in the end.
    text = sum(len(message["content"].encode("utf-8")) for message in prompt.messages("tagged"))
    return text + len(str(prompt.schema)) + 64


def estimate(messages: Sequence[dict], text: str) -> Usage:
    """Tokens of a reply whose server gave no usage: about four bytes a token, and never less than a word."""
    prompt_bytes = sum(len(message["content"].encode("utf-8")) for message in messages)
    return Usage(prompt=prompt_bytes // 4 + 8, completion=len(text.encode("utf-8", "surrogatepass")) // 4 + 1)
