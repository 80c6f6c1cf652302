"""What the adapter of a protocol offers to the service."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from app.providers.remote_batches import RemoteBatches
from app.providers.teacher import Endpoint, Teacher
from app.synth.reply_forms import ReplyForm

FORMS: tuple[ReplyForm, ...] = ("json_schema", "json_object", "tagged")


@dataclass(frozen=True)
class Adapter:
    """What a protocol's module in `app/providers/adapters` offers, under the name ADAPTER.

    Attributes:
        open_teacher: Opens a teacher in the running event loop. It makes no call.
        forms: The forms of reply that the protocol can ask for, the strictest first.
        open_remote_batches: Opens the teacher's remote batches; None where the protocol has none.
        context_tokens: Asks the server for the size of its context, by a request that costs nothing; None where the
            protocol has none. With it, requests may ask for several replies and for log probabilities.
    """

    open_teacher: Callable[[Endpoint], Teacher]
    forms: tuple[ReplyForm, ...] = FORMS
    open_remote_batches: Callable[[Endpoint], RemoteBatches] | None = None
    context_tokens: Callable[[Endpoint], Awaitable[int | None]] | None = None
