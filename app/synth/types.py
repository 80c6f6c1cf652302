"""The kernel's values. All frozen: a step takes some and returns new ones."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Instance:
    """One worked example of an instruction. `input` is empty where the instruction needs none."""

    input: str
    output: str


@dataclass(frozen=True)
class Demonstration:
    """An instruction shown to the teacher: a seed (written by a person) or an accepted record."""

    id: str
    instruction: str
    instances: tuple[Instance, ...] = ()
    is_classification: bool | None = None


@dataclass(frozen=True)
class Prompt:
    """One request to a teacher, whole. `schema` is the JSON schema of the reply that is asked for.

    `position` names the call inside its batch, so that two equal requests of one batch stay two.
    """

    step: str
    position: str
    system: str
    user: str
    schema: dict
    temperature: float
    max_tokens: int
    template: str
    seed: int | None = None
    top_p: float | None = None

    def messages(self) -> list[dict[str, str]]:
        return [{"role": "system", "content": self.system}, {"role": "user", "content": self.user}]


@dataclass(frozen=True)
class Usage:
    """Tokens of one call. `cached` is the part of `prompt` that the provider had cached."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0


@dataclass(frozen=True)
class Reply:
    """What came back. `id` names the stored completion; `simulated` is what the server said of itself."""

    text: str
    finish_reason: str = "stop"
    refusal: str | None = None
    usage: Usage = Usage()
    id: str = ""
    simulated: bool = False


@dataclass(frozen=True)
class Rejection:
    """Why a candidate was turned away: the rule, its value against its threshold, the nearest text if any."""

    reason: str
    value: float | str | None = None
    threshold: float | str | None = None
    nearest_id: str | None = None
    nearest_text: str | None = None


@dataclass(frozen=True)
class Candidate:
    """A row offered for admission, or one already turned away (`rejection` set).

    Rows that share an instruction share a `family`. `completions` are the ids of the replies it was
    made from, `parents` the ids of the demonstrations or the record it grew from.
    """

    instruction: str
    input: str = ""
    output: str = ""
    is_classification: bool | None = None
    family: str = ""
    operation: str | None = None
    parents: tuple[str, ...] = ()
    completions: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    simulated: bool = False
    rejection: Rejection | None = None


Ask = Callable[[Prompt], Awaitable[Reply]]
Encode = Callable[[Sequence[str]], np.ndarray]
"""Texts in, float32 of shape (texts, dimensions) out, each row of unit length."""

Screen = Callable[[str], Awaitable[Rejection | None]]
"""A look at the pool before anything is paid for an instruction."""


@dataclass(frozen=True)
class Proposal:
    """What one batch produced, in a stable order: candidates to offer and rows already rejected."""

    candidates: tuple[Candidate, ...] = field(default_factory=tuple)
