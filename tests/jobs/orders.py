"""One order of each of the seven kinds of jobs, through the services, on a small dataset."""

import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select, update

from app import config
from app.access.service import Caller
from app.calls import service as accounts
from app.datasets import import_job, imports
from app.datasets import service as datasets
from app.datasets.pools import Pools
from app.datasets.schemas import DatasetCreate
from app.finetunes import service as finetunes
from app.finetunes import training
from app.finetunes.schemas import FineTuneCreate
from app.jobs import runner
from app.jobs.kinds import JobKind
from app.likelihood_scores import scoring
from app.likelihood_scores import service as scorings
from app.likelihood_scores.schemas import LikelihoodScoresCreate
from app.maintenance import kinds as maintenance_kinds
from app.maintenance import service as maintenance
from app.maintenance.schemas import DecontaminationCreate, ReencodeCreate, RefilterCreate
from app.persistence import files
from app.persistence.db import transaction
from app.persistence.ids import new_id
from app.snapshots import service as snapshots
from app.snapshots import writing
from app.snapshots.schemas import SnapshotCreate
from app.tables.datasets import Dataset, Record
from app.tables.maintenance import Match, NewEmbedding
from app.tables.runs import Run
from tests.fakes import encoders, unlike

ROWS = 250


@dataclass
class Bench:
    """A project with one dataset, and the pools of a worker."""

    caller: Caller
    dataset: Dataset
    pools: Pools

    def tools(self, kind: JobKind) -> tuple:
        """What a worker gives the kind's `perform`."""
        return (self.pools,) if kind.table.__tablename__ in ("imports", "maintenance_jobs") else ()

    def work(self, kind: JobKind, row) -> None:
        runner.work(kind, row.id, *self.tools(kind))


def open_bench(caller: Caller) -> Bench:
    with transaction() as session:
        body = DatasetCreate(name=f"jobs {time.time_ns()}", seeds={"bundled": "english"})
        dataset = datasets.create(session, caller, body)
    bench = Bench(caller, dataset, Pools(encoders()))
    bench.pools.prepare(dataset)
    return bench


def order_import(bench: Bench):
    lines = "".join(json.dumps({"instruction": f"Say {unlike(n)}", "output": "x"}) + "\n" for n in range(ROWS))
    upload = imports.Upload(io.BytesIO(lines.encode()), ROWS)
    with transaction() as session:
        return imports.start_import(session, bench.caller, bench.dataset.id, "records", upload)


def order_snapshot(bench: Bench):
    with transaction() as session:
        body = SnapshotCreate(dataset_id=bench.dataset.id, include_seeds=True)
        return snapshots.create(session, bench.caller, body)


def order_fine_tune(bench: Bench):
    snapshot = order_snapshot(bench)
    bench.work(writing.KIND, snapshot)
    with transaction() as session:
        return finetunes.create(session, bench.caller, FineTuneCreate(snapshot_id=snapshot.id))


def order_scoring(bench: Bench):
    with transaction() as session:
        return scorings.create(session, bench.caller, LikelihoodScoresCreate(dataset_id=bench.dataset.id))


def order_refilter(bench: Bench):
    with transaction() as session:
        id = new_id("run")
        account = accounts.open_account(session, bench.caller.project_id, bench.dataset.id, ("run", id), {})
        run = Run(
            id=id,
            project_id=bench.caller.project_id,
            account_id=account.id,
            dataset_id=bench.dataset.id,
            method="self_instruct",
            options={},
            seed=0,
            target=10,
            status="succeeded",
            stop_reason="target_reached",
            rejected_by_reason={},
            cursor={},
        )
        session.add(run)
        session.flush()
        # More imported rows than its target, if there are any: applied, the refilter would move them.
        mine = (Record.dataset_id == bench.dataset.id, Record.import_id.is_not(None))
        session.execute(update(Record).where(*mine).values(run_id=run.id))
        return maintenance.refilter(session, bench.caller, run.id, RefilterCreate(apply=True))


def order_decontamination(bench: Bench):
    with transaction() as session:
        texts = ["Is there anything I can eat for a breakfast that doesn't include eggs, yet includes protein, and has"]
        evaluation = maintenance.create_set(session, bench.caller, f"set {time.time_ns()}", texts)
        body = DecontaminationCreate(evaluation_sets=[evaluation.id], ngram=5, action="drop")
        return maintenance.decontaminate(session, bench.caller, bench.dataset.id, body)


def order_reencoding(bench: Bench):
    with transaction() as session:
        return maintenance.reencode(session, bench.caller, bench.dataset.id, ReencodeCreate())


@dataclass(frozen=True)
class Order:
    kind: JobKind
    make: Callable
    cancel: Callable


def _cancel_import(session, bench: Bench, id: str):
    return imports.cancel(session, bench.caller, bench.dataset.id, id)


def _by(service) -> Callable:
    return lambda session, bench, id: service.cancel(session, bench.caller, id)


ORDERS = {
    order.kind.name: order
    for order in (
        Order(import_job.KIND, order_import, _cancel_import),
        Order(writing.KIND, order_snapshot, _by(snapshots)),
        Order(training.KIND, order_fine_tune, _by(finetunes)),
        Order(scoring.KIND, order_scoring, _by(scorings)),
        Order(maintenance_kinds.REFILTER, order_refilter, _by(maintenance)),
        Order(maintenance_kinds.DECONTAMINATION, order_decontamination, _by(maintenance)),
        Order(maintenance_kinds.REENCODING, order_reencoding, _by(maintenance)),
    )
}


def read(table: type, id: str):
    with transaction() as session:
        return session.get(table, id)


def leftovers(id: str) -> list[str]:
    """Files, folders and rows that a job of this id has half stored."""
    stored = Path(config.settings().files)
    paths = [str(path) for path in stored.rglob("*") if id in str(path)] if stored.exists() else []
    paths += [str(path) for path in (Path(config.settings().home) / "work").glob(f"{id}-*")]
    with transaction() as session:
        for table in (NewEmbedding, Match):
            count = session.scalar(select(func.count()).where(table.maintenance_job_id == id))
            paths += [f"{count} rows of {table.__tablename__}"] if count else []
    return paths


def storage_has(path: str) -> bool:
    try:
        return files.size(path) >= 0
    except FileNotFoundError:
        return False
