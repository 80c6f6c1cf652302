"""What a teacher is to the service, whatever protocol it speaks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from app.synth.prices import Prices, estimate
from app.synth.reply_forms import ReplyForm
from app.synth.types import Prompt, Reply

MAX_REPLY_CHARACTERS = 8 * 2**20


@dataclass(frozen=True)
class Endpoint:
    """Where a teacher answers, and how it is to be called.

    Attributes:
        name: The name in the operator's configuration.
        base_url: The address; "" for a function.
        model: The name of the model.
        api_key: The key of the address; "none" without one.
        prices: US dollars per million tokens.
        in_flight: The most calls at once.
        requests_per_minute: Of all workers together; 0 is no limit.
        tokens_per_minute: Of all workers together; 0 is no limit.
        timeout_seconds: The timeout of one call.
        replies: The form in which the teacher gives a reply that has parts.
        protocol: The name of an adapter, see `app.providers.protocols`.
        function: "module:function" of the protocol `callable`; "" for an address.
    """

    name: str
    base_url: str
    model: str
    api_key: str
    prices: Prices
    in_flight: int = 32
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    timeout_seconds: float = 120
    replies: ReplyForm = "json_schema"
    protocol: str = "openai"
    function: str = ""

    @property
    def address(self) -> str:
        """Return what tells this teacher from another one of the same name: its URL, or its function."""
        return self.base_url or self.function


@dataclass(frozen=True)
class Served:
    """A reply with what the ledger keeps of it: the model that the teacher named, and whether usage is an estimate."""

    reply: Reply
    model: str
    usage_estimated: bool


class Teacher(Protocol):
    """A teacher that is open for calls. It belongs to the event loop in which it was opened."""

    @property
    def endpoint(self) -> Endpoint:
        """Return the endpoint that it was opened for."""

    def request(self, prompt: Prompt) -> dict:
        """Return the request as JSON values: all that shapes the answer. The ledger's key of a call rests on it.

        The same prompt gives the same request, in this and in every later process.
        """

    async def complete(self, prompt: Prompt) -> Served:
        """Make one call, without any retry. A reply that can't be used (refused, cut, unreadable) is a Served, too.

        Raises:
            TryAgain: The call failed and may succeed later.
            TeacherRefused: No call of this kind can succeed.
        """

    async def close(self) -> None:
        """Let go of connections. Closing twice does nothing."""


def unreadable(messages: Sequence[dict], message: str) -> Served:
    """Return what is kept of an answer that could not be read: the message, and an estimate of its cost."""
    reply = Reply(message, finish_reason="unreadable", usage=estimate(messages, ""))
    return Served(reply, "", usage_estimated=True)
