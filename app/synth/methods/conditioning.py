"""Conditioning of a batch: the topic and the task type that its prompt demands."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from app.synth.types import UNKNOWN_VERDICTS, Batch, Candidate

CLASSIFICATION = "classification"
_PROMPT_LINES = {
    "en": ("\nAll of them are about this topic: {}.", "\nAll of them are tasks of this type: {}."),
    "ko": ("\n모두 다음 주제에 관한 것이어야 합니다: {}.", "\n모두 다음 유형의 과제여야 합니다: {}."),
}


def check_shares(shares: dict[str, float]) -> dict[str, float]:
    """Return the shares unchanged.

    Raises:
        ValueError: a share is not positive, or a name is blank or has over 100 characters.
    """
    for name, share in shares.items():
        if not name.strip() or len(name) > 100:
            raise ValueError("a task type has a name of up to 100 characters")
        if not 0 < share < float("inf"):
            raise ValueError(f"{name}: a share is above 0, not {share}")
    return shares


@dataclass(frozen=True)
class Conditioning:
    """The topic and the task type of a batch; None where it has none."""

    topic: str | None = None
    task_type: str | None = None

    @classmethod
    def of(cls, batch: Batch) -> "Conditioning":
        """Return the conditioning of a planned batch."""
        return cls(batch.conditioning.get("topic"), batch.conditioning.get("task_type"))

    def prompt_lines(self, language: str) -> str:
        """Return the lines at the end of a prompt that demand topic and task type; empty without conditioning."""
        lines = _PROMPT_LINES.get(language.split("-")[0].lower(), _PROMPT_LINES["en"])
        values = zip(lines, (self.topic, self.task_type), strict=True)
        return "".join(line.format(value) for line, value in values if value)


def choose_conditioning(
    topics: Sequence[str], task_types: Mapping[str, float], row_counts: Mapping[str, int], rng: random.Random
) -> dict[str, str]:
    """Draw a topic, and choose the task type that is furthest behind its share.

    Args:
        topics: the topics to draw from; none gives no topic.
        task_types: the share of each task type, on any scale.
        row_counts: rows so far by task type.
        rng: the source of randomness.

    Returns:
        `topic` and `task_type`, each only where there is a choice.
    """
    chosen = {"topic": rng.choice(topics)} if topics else {}
    if task_types:
        shares = {name: share / sum(task_types.values()) for name, share in task_types.items()}
        # One more than there are, so that the first choice follows the shares as well.
        total = sum(row_counts.get(name, 0) for name in shares) + 1
        deficits = {name: share * total - row_counts.get(name, 0) for name, share in shares.items()}
        # A random number breaks ties; otherwise the first type would always lead.
        chosen["task_type"] = max(deficits, key=lambda name: (deficits[name], rng.random()))
    return chosen


def tag_row(row: Candidate, conditioning: Conditioning) -> Candidate:
    """Tag the row with its topic and task type.

    A row is tagged as a classification only if it is one, whatever its prompt demanded.
    """
    tags = dict(row.tags)
    if conditioning.topic:
        tags["topic"] = conditioning.topic
    # What the teacher classified outranks what the prompt demanded.
    if row.is_classification:
        tags["task_type"] = CLASSIFICATION
    elif conditioning.task_type and (conditioning.task_type != CLASSIFICATION or not _was_classified(row)):
        tags["task_type"] = conditioning.task_type
    return replace(row, tags=tags)


def _was_classified(row: Candidate) -> bool:
    """Return whether a teacher was asked for the task type; its answer may have been unreadable."""
    return row.is_classification is not None or "classification" in row.tags.get(UNKNOWN_VERDICTS, ())
