"""What a personality is: a name, the servers that behave so, and what it changes on the way of a reply."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from app.simulator.protocol import ChatRequest


@dataclass(frozen=True)
class Call:
    """One try of a request.

    Attributes:
        request: The request.
        request_hash: The hash of its canonical body.
        attempt: How many tries of this request came before.
        authorization: The header of that name; "" in a batch.
        url: Its address; "" in a batch.
    """

    request: ChatRequest
    request_hash: str
    attempt: int
    authorization: str = ""
    url: str = ""


@dataclass(frozen=True)
class WrittenReply:
    """What the model writes: its text, and a thought that the server keeps apart from the text."""

    text: str
    thought: str = ""

    def with_text(self, text: str) -> "WrittenReply":
        """Return the reply with another text."""
        return replace(self, text=text)


@dataclass(frozen=True)
class Bill:
    """Tokens that the server bills for a completion. `cached` is a part of prompt, `thought` one of completion."""

    prompt: int
    cached: int
    completion: int
    thought: int


@dataclass(frozen=True)
class RawBody:
    """The body of a response as it is sent: bytes with their content type."""

    content: bytes
    media_type: str = "application/json"


@dataclass(frozen=True)
class Personality:
    """A habit of a server. Each function is a step on the way of a reply, in this order; None changes nothing.

    Attributes:
        name: The name by which it is selected.
        servers: The servers, models or proxies that behave so, for the documentation.
        refuse: Raises ApiError before anything is composed, so that nothing is billed.
        write: Returns what the model writes instead.
        max_tokens: The most tokens that the server writes, whatever the request allows; 0 is no limit.
        shape_message: Changes the message of a choice. It gets the thought that the server keeps apart.
        shape_body: Changes the completion. It gets what the server bills.
        encode: Returns the body of the response, from the completion.
        seconds: How long a response takes in addition.
        by_attempt: A further try of the same request is drawn anew, since the fault is one of a moment.
    """

    name: str
    servers: str
    refuse: Callable[[Call], None] | None = None
    write: Callable[[WrittenReply, random.Random], WrittenReply] | None = None
    max_tokens: int = 0
    shape_message: Callable[[dict, str], None] | None = None
    shape_body: Callable[[dict, Bill], None] | None = None
    encode: Callable[[dict], RawBody] | None = None
    seconds: float = 0.0
    by_attempt: bool = False
