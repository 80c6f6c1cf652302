"""Counts requests and billed tokens, so that a test can prove that nothing is paid for twice."""

from collections import Counter, defaultdict

from app.simulator.personalities.personality import Bill


class UsageCounter:
    """Counts outcomes, billed tokens, and the attempts and billings of each request."""

    def __init__(self):
        self.outcomes: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self._attempts: Counter[str] = Counter()
        self._billed: Counter[str] = Counter()
        self._models: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def count_attempt(self, request_hash: str) -> int:
        """Count one more attempt of a request and return how many attempts came before it."""
        self._attempts[request_hash] += 1
        return self._attempts[request_hash] - 1

    def record_billing(self, request_hash: str, model: str, bill: Bill) -> None:
        """Record that a request to a model was billed."""
        self._billed[request_hash] += 1
        counts = {"prompt": bill.prompt, "cached": bill.cached, "completion": bill.completion}
        self.tokens.update(counts | {"total": bill.prompt + bill.completion})
        self._models[model].update(counts | {"thought": bill.thought, "answers": 1})

    def summary(self) -> dict:
        """Return the JSON body of GET /stats."""
        # "billed_more_than_once" above 0 means that a client asked again for a reply that it had paid for.
        return {
            "requests": self.outcomes.total(),
            "outcomes": dict(sorted(self.outcomes.items())),
            "tokens": {name: self.tokens[name] for name in ("prompt", "cached", "completion", "total")},
            "models": {model: dict(counts) for model, counts in sorted(self._models.items())},
            "request_hashes": {
                "distinct": len(self._attempts),
                "seen_more_than_once": sum(n > 1 for n in self._attempts.values()),
                "billed": len(self._billed),
                "billed_more_than_once": sum(n > 1 for n in self._billed.values()),
            },
        }
