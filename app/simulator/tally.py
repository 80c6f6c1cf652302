"""What was served and billed, so that a test can ask whether anything was paid for twice."""

from collections import Counter


class Tally:
    def __init__(self):
        self.outcomes: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self._sights: Counter[str] = Counter()
        self._billed: Counter[str] = Counter()

    def see(self, request: str) -> int:
        """How many times the request had come before."""
        self._sights[request] += 1
        return self._sights[request] - 1

    def bill(self, request: str, prompt: int, completion: int, cached: int) -> None:
        self._billed[request] += 1
        self.tokens.update(prompt=prompt, completion=completion, cached=cached, total=prompt + completion)

    def summary(self) -> dict:
        return {
            "requests": self.outcomes.total(),
            "outcomes": dict(sorted(self.outcomes.items())),
            "tokens": {name: self.tokens[name] for name in ("prompt", "cached", "completion", "total")},
            "request_hashes": {
                "distinct": len(self._sights),
                "seen_more_than_once": sum(n > 1 for n in self._sights.values()),
                "billed": len(self._billed),
                "billed_more_than_once": sum(n > 1 for n in self._billed.values()),
            },
        }
