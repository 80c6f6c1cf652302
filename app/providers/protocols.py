"""The protocols that teachers speak, each an adapter in a module of its own, which is loaded by its name.

A new protocol is a new module in `app/providers/adapters` that ends with its ADAPTER; the module's name is what the
configuration calls the protocol. Only the adapter in use is loaded, so that none needs the client of another.
"""

import importlib

from app.providers import adapters
from app.providers.adapter import Adapter
from app.providers.remote_batches import RemoteBatches
from app.providers.teacher import Endpoint, Teacher
from app.synth.teacher_errors import TeacherRefused


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
