"""Real servers for the tests: Postgres and Redis of the embedded stack."""

import os
from collections.abc import Iterator

# Before anything imports torch: threads that wait actively take the cores from the processes beside them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from app import config
from app.jobs import queue
from app.persistence import db
from app.stack import Stack

# A time limit on one example would be an assert on the load of the machine.
hypothesis.settings.register_profile("seedbed", deadline=None)
hypothesis.settings.load_profile("seedbed")

# Groups of tests that share a stack. Each goes whole to one of several test processes, so that no stack starts twice.
SHARE_A_STACK = ("tests/service/", "tests/faulty_service/")
# A long group that starts last keeps one process busy alone.
LONG_FIRST = (
    *SHARE_A_STACK,
    "tests/teachers/",
    "tests/faults/",
    "tests/recipes/test_sft.py",
    "tests/recipes/",
    "tests/stack/",
)


class StackScheduler(LoadScopeScheduling):
    """Gives each test process of pytest-xdist whole files, or all files that share a stack.

    The groups of xdist's own `--dist loadgroup` have no effect with pytest 9.2: it keeps them in an attribute of the
    test that pytest no longer reads.
    """

    def _split_scope(self, nodeid: str) -> str:
        shared = [folder for folder in SHARE_A_STACK if nodeid.startswith(folder)]
        return shared[0] if shared else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> StackScheduler:
    """Keep the order of `pytest_collection_modifyitems`: xdist would start with the groups of the most tests."""
    config.option.loadscopereorder = False
    return StackScheduler(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long groups first."""
    items.sort(key=lambda item: _position(item.nodeid))


def _position(nodeid: str) -> int:
    return next((index for index, name in enumerate(LONG_FIRST) if nodeid.startswith(name)), len(LONG_FIRST))


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
