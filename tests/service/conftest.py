"""The whole stack with workers. It ends with this package: idle workers would slow the tests of other packages."""

from collections.abc import Iterator

import httpx
import pytest

from app.stack import Stack
from app.stack.state_dir import free_port
from tests.waiting import FAST, HTTP_SECONDS


@pytest.fixture(scope="package")
def service(tmp_path_factory) -> Iterator[Stack]:
    """The whole stack: API, workers, sweeper and the simulated teacher as real processes."""
    with Stack(tmp_path_factory.mktemp("service"), port=free_port(), durable=False, environment=FAST) as stack:
        yield stack


@pytest.fixture(scope="package")
def api(service) -> Iterator[httpx.Client]:
    """HTTP to the service with its key."""
    headers = {"Authorization": f"Bearer {service.api_key}"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=HTTP_SECONDS) as client:
        yield client
