"""The protocols that teachers speak, each an adapter in a module of its own, which is loaded by its name.

A new protocol is a new module in `app/providers/adapters` that ends with its ADAPTER; the module's name is what the
configuration calls the protocol. Only the adapter in use is loaded, so that none needs the client of another.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from app.providers import adapters
from app.providers.remote_batches import RemoteBatches
from app.providers.teacher import Endpoint, Teacher
from app.synth.reply_forms import ReplyForm
from app.synth.teacher_errors import TeacherRefused

FORMS: tuple[ReplyForm, ...] = ("json_schema", "json_object", "tagged")


@dataclass(frozen=True)
class Adapter:
    """What a protocol's module in `app/providers/adapters` offers, under the name ADAPTER.

    Attributes:
        open_teacher: Opens a teacher in the running event loop. It makes no call.
        forms: The forms of reply that the protocol can ask for, the strictest first.
        open_remote_batches: Opens the teacher's remote batches; None where the protocol has none.
    """

    open_teacher: Callable[[Endpoint], Teacher]
    forms: tuple[ReplyForm, ...] = FORMS
    open_remote_batches: Callable[[Endpoint], RemoteBatches] | None = None


def adapter_of(endpoint: Endpoint) -> Adapter:
    """Load the adapter of the endpoint's protocol.

    Raises:
        ImportError: There is no such protocol, or its client is not installed.
    """
    return importlib.import_module(f"{adapters.__name__}.{endpoint.protocol}").ADAPTER


def open_teacher(endpoint: Endpoint) -> Teacher:
    """Open a teacher in the running event loop, which must also close it."""
    return adapter_of(endpoint).open_teacher(endpoint)


def open_remote_batches(endpoint: Endpoint) -> RemoteBatches:
    """Open the remote batches of a teacher.

    Raises:
        TeacherRefused: The protocol has none.
    """
    opens = adapter_of(endpoint).open_remote_batches
    if opens is None:
        reason = f"the teacher {endpoint.name!r} has no remote batches, since its protocol {endpoint.protocol!r}"
        raise TeacherRefused("request_refused", f'{reason} has none; create the run with "mode": "direct"')
    return opens(endpoint)
