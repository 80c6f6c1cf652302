"""The whole stack with a teacher that has faults, for the modules that kill processes or need remote batches.

It ends with this package: idle workers would slow the tests of other packages.
"""

from collections.abc import Iterator

import httpx
import pytest

from app.stack import Stack
from app.stack.state_dir import free_port
from tests.waiting import FAST, HTTP_SECONDS

TEACHER = (
    *("--latency", "0.3", "--batch-seconds", "0.5", "--batch-expire", "0.1"),
    *("--fault", "server_error=0.05", "--fault", "invalid_json=0.03"),
)


@pytest.fixture(scope="package")
def faulty(tmp_path_factory) -> Iterator[Stack]:
    """Its teacher takes its time, makes errors, and has remote batches of which some requests expire."""
    home, port = tmp_path_factory.mktemp("faulty"), free_port()
    with Stack(home, port=port, durable=False, environment=FAST, simulator_options=TEACHER) as stack:
        yield stack


@pytest.fixture
def client(faulty) -> Iterator[httpx.Client]:
    """HTTP to the faulty stack with its key."""
    headers = {"Authorization": f"Bearer {faulty.api_key}"}
    with httpx.Client(base_url=faulty.url, headers=headers, timeout=HTTP_SECONDS) as client:
        yield client
