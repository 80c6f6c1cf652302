"""How the requests to one teacher are written: what is added to them, what is renamed, and what is never sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from app.synth.types import Prompt

MaxTokensName = Literal["max_tokens", "max_completion_tokens"]
SystemTurn = Literal["own", "folded"]
# These sampling settings of a teacher replace those of a prompt.
_PROMPT_SAMPLING = ("temperature", "top_p", "presence_penalty")


@dataclass(frozen=True)
class RequestSettings:
    """How a request body is written for one teacher.

    Attributes:
        extra_body: Fields that each request gets, beside or in place of ours.
        extra_headers: HTTP headers that each request gets.
        query: Parameters of the address, such as the `api-version` of Azure.
        sampling: Sampling settings by name, which replace those of each step.
        stop: Texts at which the teacher ends its reply.
        max_tokens_name: The name of the field for the most tokens of a reply.
        system_turn: Whether the system text is a message of its own, or stands before the text of the user.
        streams: Whether the reply is requested as a stream.
        drops: Fields that the teacher refuses and that are never sent.
    """

    extra_body: Mapping[str, object] = field(default_factory=dict, hash=False)
    extra_headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    query: Mapping[str, str] = field(default_factory=dict, hash=False)
    sampling: Mapping[str, float] = field(default_factory=dict, hash=False)
    stop: tuple[str, ...] = ()
    max_tokens_name: MaxTokensName = "max_tokens"
    system_turn: SystemTurn = "own"
    streams: bool = False
    drops: tuple[str, ...] = ()

    @property
    def secrets(self) -> list[str]:
        """Return the values that no message may show: of all headers and of all parameters of the address."""
        return [*self.extra_headers.values(), *self.query.values()]

    def without_dropped_fields(self, body: Mapping[str, object]) -> dict:
        """Return the body without the fields that the teacher refuses, and with the operator's fields."""
        return {name: value for name, value in body.items() if name not in self.drops} | dict(self.extra_body)


def with_sampling(prompt: Prompt, settings: RequestSettings) -> Prompt:
    """Return the prompt with the sampling settings of the teacher in place of those of the step."""
    return replace(prompt, **{name: settings.sampling[name] for name in _PROMPT_SAMPLING if name in settings.sampling})


def fold_system(messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Return the messages with the system text before the text of the first message of the user."""
    system, first, *others = messages
    if not system["content"]:
        return [first, *others]
    content = f"{system['content']}\n\n{first['content']}"
    return [first | {"content": content}, *others]
