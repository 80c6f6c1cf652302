"""Counts refusals whose reason is in no table of errors, to decide whether the prompt or the teacher is the cause.

A refused prompt costs its row alone. When so many prompts were refused without an answer between them, the teacher
refuses all requests, and the run ends.
"""

from collections import defaultdict

# One prompt may be at fault, and a second by chance. With a wrong setting of the teacher all prompts are refused, and
# the run must stop soon: each refused prompt is a lost row.
MAX_PROMPTS = 3


class UnknownRefusals:
    """The prompts that each teacher refused without a known reason since its last answer, in one time slice."""

    def __init__(self) -> None:
        self._prompts: defaultdict[str, set[str]] = defaultdict(set)

    def add(self, teacher: str, key: str) -> bool:
        """Count the refusal of the request with this key, and return whether the teacher refuses all requests."""
        self._prompts[teacher].add(key)
        return len(self._prompts[teacher]) >= MAX_PROMPTS

    def clear(self, teacher: str) -> None:
        """Forget the refusals: the teacher has answered a request."""
        self._prompts.pop(teacher, None)
