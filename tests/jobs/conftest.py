"""A dataset to order jobs on, without workers: the tests make the attempts themselves."""

import pytest

from app.access import service as access
from app.access.service import Caller
from app.persistence.db import transaction
from tests.jobs.orders import Bench, open_bench, order_snapshot


@pytest.fixture(scope="session")
def caller(database) -> Caller:
    with transaction() as session:
        return Caller(access.ensure_project(session, "jobs").id, "key")


@pytest.fixture
def bench(caller) -> Bench:
    return open_bench(caller)


@pytest.fixture
def snapshot(bench):
    return order_snapshot(bench)
