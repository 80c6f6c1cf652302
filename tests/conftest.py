"""Real servers for the tests: Postgres and Redis of the embedded stack, and the whole stack with workers."""

import os
from collections.abc import Iterator

# Before anything imports torch: threads that wait actively take the cores from the processes beside them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import httpx
import hypothesis
import pytest

from app import config
from app.jobs import queue
from app.persistence import db
from app.stack import Stack
from app.stack.state_dir import free_port
from tests.waiting import HTTP_SECONDS

# A time limit on one example would be an assert on the load of the machine.
hypothesis.settings.register_profile("seedbed", deadline=None)
hypothesis.settings.load_profile("seedbed")

# Short leases and looks, so that tests of taking over need no long waits; the service runs on its own defaults.
FAST = {"SEEDBED_LEASE_SECONDS": "6", "SEEDBED_SWEEP_SECONDS": "0.5", "SEEDBED_POLL_SECONDS": "2"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What shares a stack goes to one of several test processes, so that none is started twice; else a file does."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            shared = [name for name in ("service", "faulty", "database") if name in item.fixturenames]
            item.add_marker(pytest.mark.xdist_group(shared[0] if shared else str(item.path)))


def _use(stack: Stack) -> None:
    os.environ["DATABASE_URL"], os.environ["REDIS_URL"] = stack.database_url, stack.redis_url
    os.environ["SEEDBED_HOME"] = str(stack.state_dir.path)
    queue.app.conf.broker_url = stack.redis_url
    for cached in (config.settings, config.file_config, db.engine, db._sessions):
        cached.cache_clear()


@pytest.fixture(scope="session")
def database(tmp_path_factory) -> Iterator[Stack]:
    """Postgres and Redis alone, with the schema: for tests that call services in this process."""
    with Stack(tmp_path_factory.mktemp("database"), only=("postgres", "redis"), durable=False) as stack:
        _use(stack)
        from app.persistence import migrate

        migrate.upgrade()
        yield stack
        db.engine().dispose()


@pytest.fixture(scope="session")
def service(tmp_path_factory) -> Iterator[Stack]:
    """The whole stack: API, workers, sweeper and the simulated teacher as real processes."""
    with Stack(tmp_path_factory.mktemp("service"), port=free_port(), durable=False, environment=FAST) as stack:
        yield stack


@pytest.fixture(scope="session")
def api(service) -> Iterator[httpx.Client]:
    """HTTP to the service with its key."""
    headers = {"Authorization": f"Bearer {service.api_key}"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=HTTP_SECONDS) as client:
        yield client
