"""Counts requests and billed tokens, so that a test can prove that nothing is paid for twice."""

from collections import Counter


class UsageCounter:
    """Counts outcomes, billed tokens, and the attempts and billings of each request."""

    def __init__(self):
        self.outcomes: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self._attempts: Counter[str] = Counter()
        self._billed: Counter[str] = Counter()

    def count_attempt(self, request_hash: str) -> int:
        """Count one more attempt of a request and return how many attempts came before it."""
        self._attempts[request_hash] += 1
        return self._attempts[request_hash] - 1

    def record_billing(self, request_hash: str, prompt: int, completion: int, cached: int) -> None:
        """Record that a request was billed for these tokens; `cached` is the part of `prompt` that costs less."""
        self._billed[request_hash] += 1
        self.tokens.update(prompt=prompt, completion=completion, cached=cached, total=prompt + completion)

    def summary(self) -> dict:
        """Return the JSON body of GET /stats."""
        # "billed_more_than_once" above 0 means that a client asked again for a reply that it had paid for.
        return {
            "requests": self.outcomes.total(),
            "outcomes": dict(sorted(self.outcomes.items())),
            "tokens": {name: self.tokens[name] for name in ("prompt", "cached", "completion", "total")},
            "request_hashes": {
                "distinct": len(self._attempts),
                "seen_more_than_once": sum(n > 1 for n in self._attempts.values()),
                "billed": len(self._billed),
                "billed_more_than_once": sum(n > 1 for n in self._billed.values()),
            },
        }
