"""What holds on to a dataset: jobs that have not ended, snapshots, and a reencoding."""

import pytest

from app.datasets import service as datasets
from app.errors import AppError
from app.jobs import active_jobs, steering
from app.persistence.db import transaction
from tests.jobs.orders import (
    ORDERS,
    order_decontamination,
    order_import,
    order_reencoding,
    order_scoring,
    order_snapshot,
)


def delete(bench) -> None:
    with transaction() as session:
        datasets.delete(session, bench.caller, bench.dataset.id)


def cancel(bench, name: str, row) -> None:
    with transaction() as session:
        steering.cancel(session, ORDERS[name].kind, row.id)


@pytest.mark.parametrize("name", ["import", "scoring", "decontamination", "reencoding"])
def test_a_dataset_stays_until_its_jobs_have_ended(bench, name):
    row = ORDERS[name].make(bench)
    with pytest.raises(AppError, match="have not ended"):
        delete(bench)
    cancel(bench, name, row)
    delete(bench)
    with pytest.raises(AppError, match="No dataset"):
        delete(bench)


def test_a_dataset_stays_with_its_snapshots(bench):
    cancel(bench, "snapshot", order_snapshot(bench))
    with pytest.raises(AppError, match="has snapshots"):
        delete(bench)


def test_only_jobs_that_change_the_pool_stand_in_the_way_of_a_reencoding(bench):
    scoring, snapshot, imported = order_scoring(bench), order_snapshot(bench), order_import(bench)
    maintenance_job = order_decontamination(bench)
    with transaction() as session:
        assert active_jobs.list_active_on_dataset(session, bench.dataset.id) == [
            imported.id,
            scoring.id,
            maintenance_job.id,
        ]
        assert active_jobs.list_active_that_change_pool(session, bench.dataset.id) == [imported.id, maintenance_job.id]
        assert active_jobs.find_exclusive(session, bench.dataset.id) is None
        assert active_jobs.find_active(session, [scoring.id, snapshot.id, "sco_none"]) == {scoring.id, snapshot.id}
    with pytest.raises(AppError, match=f"change the dataset: {imported.id}, {maintenance_job.id}"):
        order_reencoding(bench)


def test_a_reencoding_lets_no_other_job_change_the_pool(bench):
    reencoding = order_reencoding(bench)
    with transaction() as session:
        assert active_jobs.find_exclusive(session, bench.dataset.id) == reencoding.id
    with pytest.raises(AppError, match=f"encoded anew by {reencoding.id}"):
        order_import(bench)
    cancel(bench, "reencoding", reencoding)
    order_import(bench)
