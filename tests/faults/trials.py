"""Seeded fault trials: a job is running, a fault happens at a random moment, and the guarantees are checked afterwards.

Everything is real: processes, PostgreSQL, Redis, HTTP. The simulated teacher counts what it served and billed; its
counts are the reference for our ledger.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import httpx
import numpy as np
import psutil
from redis import Redis
from sqlalchemy import create_engine, text

from app.stack import Stack
from app.stack.plan import environment, worker
from app.stack.state_dir import free_port
from app.synth.novelty.pool import Pool
from app.tables.jobs import Lease, Table
from tests.waiting import ENDED, HTTP_SECONDS, PROCESS_SECONDS, let_pass, until

FAST = {
    "SEEDBED_LEASE_SECONDS": "5",
    "SEEDBED_SWEEP_SECONDS": "0.5",
    "SEEDBED_POLL_SECONDS": "3",
    "SEEDBED_SLICE_SECONDS": "1",
}
LATENCY = ("--latency", "0.15", "--latency-tail", "0.5")
PATIENCE_SECONDS = 180
REQUEST_SECONDS = 60
CLOCK = Path(__file__).parent / "clock"
SLOW_START = Path(__file__).parent / "slow_start" / "sitecustomize.py"
SLOW_START_SECONDS = 20
UNDER_WAY = "'running', 'cancelling', 'leased', 'preparing'"


@dataclass
class Findings:
    """The violations that a trial detected. Every number must be 0."""

    seed: int
    fault: str
    rows_lost: int = 0
    near_duplicates: int = 0
    paid_twice: int = 0
    ceilings_overrun: int = 0
    not_ended: int = 0
    books_wrong: int = 0
    orphans: int = 0
    snapshots_changed: int = 0
    messages: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        counts = (self.rows_lost, self.near_duplicates, self.paid_twice, self.ceilings_overrun, self.not_ended)
        return not any((*counts, self.books_wrong, self.orphans, self.snapshots_changed))

    def add(self, name: str, message: str, count: int = 1) -> None:
        setattr(self, name, getattr(self, name) + count)
        self.messages.append(f"{name}: {message}")


class RunningService:
    """A stack for trials, with a second generation worker."""

    def __init__(self, home: Path, faults: tuple[str, ...] = ()):
        options = (*LATENCY, *(part for fault in faults for part in ("--fault", fault)))
        # Durable, as in production: without synchronous commits a killed PostgreSQL forgets what it had promised.
        self.slow_start = home / "slow_start"
        self.slow_start.mkdir(parents=True)
        shutil.copy(SLOW_START, self.slow_start)
        path = os.pathsep.join(part for part in (str(self.slow_start), os.environ.get("PYTHONPATH")) if part)
        env = {**FAST, "PYTHONPATH": path}
        self.stack = Stack(home, port=free_port(), environment=env, simulator_options=options)
        self.second: subprocess.Popen | None = None

    def __enter__(self) -> "RunningService":
        self.stack.__enter__()
        self.client = httpx.Client(
            base_url=self.stack.url, headers={"Authorization": f"Bearer {self.stack.api_key}"}, timeout=HTTP_SECONDS
        )
        self.engine = create_engine(
            f"postgresql+psycopg://{self.stack.database_url.partition('://')[2]}", pool_pre_ping=True
        )
        self.start_second()
        self.snapshot = self._first_snapshot()
        return self

    def __exit__(self, *error) -> None:
        self.end_second()
        self.client.close()
        self.engine.dispose()
        self.stack.__exit__(*error)

    def start_second(self, **changes: str) -> None:
        fixed = {
            "DATABASE_URL": self.stack.database_url,
            "REDIS_URL": self.stack.redis_url,
            "SEEDBED_CONFIG": str(self.stack.state_dir.path / "stack.toml"),
            "SEEDBED_HOME": str(self.stack.state_dir.path),
        }
        argv = [part.replace("@%h", "-second@%h") for part in worker("generation").argv]
        env = environment({**FAST, **fixed, **changes})
        self.second = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def end_second(self) -> None:
        if self.second is not None:
            with suppress(ProcessLookupError):
                self.second.send_signal(signal.SIGCONT)
            self.second.kill()
            self.second.wait(PROCESS_SECONDS)
            self.second = None

    def pid(self, name: str) -> int:
        return self.stack.processes[name].pid

    def kill(self, name: str) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid(name), signal.SIGKILL)

    def wait_alive(self) -> None:
        """Wait until all processes run and the API is ready."""
        until(self._is_alive, every=0.1, message="the stack did not come back")

    def _is_alive(self) -> bool:
        for child in self.stack.processes.values():
            # The supervisor ends the stack after too many restarts, which the trials cause on purpose.
            child.start_count = 1
        with suppress(httpx.HTTPError):
            alive = all(child.is_alive for child in self.stack.processes.values())
            return alive and self.client.get("/readyz").json()["status"] == "ready"
        return False

    def get(self, path: str, **params) -> dict:
        """Make a GET, repeated while the API restarts: the API may be the process that was killed."""
        return self._answer(lambda: self.client.get(path, params=params), 503)

    def post(self, path: str, body: dict | None = None, content: str | None = None) -> dict:
        """Make a POST that may be repeated, since it has an idempotency key. `content` are rows as JSON lines."""
        key = {"Idempotency-Key": uuid.uuid4().hex}
        if content is not None:
            key["Content-Type"] = "application/jsonl"
        return self._answer(lambda: self.client.post(path, json=body, content=content, headers=key), 409, 503)

    def _answer(self, request: Callable[[], httpx.Response], *passing: int) -> dict:
        """Repeat a request while the connection breaks or the status is one of `passing`; return the body."""

        def answer() -> httpx.Response | None:
            with suppress(httpx.TransportError):
                answer = request()
                return None if answer.status_code in passing else answer
            return None

        answer = until(answer, REQUEST_SECONDS, every=0.1)
        if answer.is_error:
            raise RuntimeError(f"{answer.request.url}: {answer.status_code} {answer.text}")
        return answer.json()

    def sql(self, query: str, **values) -> list:
        with self.engine.connect() as connection:
            return list(connection.execute(text(query), values))

    def stats(self) -> dict | None:
        with suppress(httpx.HTTPError):
            return httpx.get(self.stack.teacher_url.removesuffix("/v1") + "/stats", timeout=HTTP_SECONDS).json()
        return None

    def settled_stats(self) -> dict | None:
        """Return the counts of the simulated teacher after it has served all calls in flight."""
        last = self.stats()
        while True:
            let_pass(0.7)
            stats = self.stats()
            if stats == last:
                return last
            last = stats

    def dollars(self, stats: dict) -> Decimal:
        """Return the teacher's bill in dollars for its counts."""
        teacher = next(item for item in self.get("/v1/teachers")["data"] if item["name"] == "simulated")
        tokens = stats["tokens"]
        units = (
            (tokens["prompt"] - tokens["cached"]) * Decimal(teacher["prompt_price"]),
            tokens["cached"] * Decimal(teacher["cached_price"]),
            tokens["completion"] * Decimal(teacher["completion_price"]),
        )
        return sum(units) / 1_000_000

    def _first_snapshot(self) -> tuple[str, str, dict[str, str]]:
        """Make a snapshot that must never change. Return its id, its digest, and the digests of its files."""
        dataset = self.post("/v1/datasets", {"name": f"fixed {uuid.uuid4()}", "seeds": {"bundled": "english"}})
        snapshot = self.wait(
            self.post("/v1/snapshots", {"dataset_id": dataset["id"], "include_seeds": True}), "snapshots"
        )
        return snapshot["id"], snapshot["digest"], self._files(snapshot["id"])

    def _files(self, id: str) -> dict[str, str]:
        digests = {}
        for file in self.get(f"/v1/snapshots/{id}")["files"]:
            content = self.client.get(f"/v1/snapshots/{id}/files/{file['name']}").content
            digests[file["name"]] = hashlib.sha256(content).hexdigest()
        return digests

    def wait(self, job: dict, kind: str, seconds: float = PATIENCE_SECONDS) -> dict:
        """Return the job at its end, or its state when the time is over."""
        job = dict(job)
        with suppress(AssertionError):
            until(lambda: self._has_ended(job, kind), seconds, every=0.2)
        return job

    def _has_ended(self, job: dict, kind: str) -> bool:
        if job["status"] not in ENDED:
            job.update(self.get(f"/v1/{kind}/{job['id']}"))
        return job["status"] in ENDED


class Trial:
    """One run on its own dataset, with a fault. The same seed makes the same choices."""

    def __init__(self, service: RunningService, seed: int, fault: str):
        self.service, self.rng = service, random.Random(f"{seed}/{fault}")
        self.findings = Findings(seed, fault)
        self.fault = FAULTS[fault]

    def work(self) -> Findings:
        service = self.service
        service.wait_alive()
        if service.second is None:
            service.start_second()
        before = service.settled_stats()
        self.dataset = service.post("/v1/datasets", {"name": f"trial {uuid.uuid4()}", "seeds": {"bundled": "english"}})
        self.run = service.post("/v1/runs", self._body())
        seen = self._watch(self.rng.uniform(0.3, 6.0))
        self.fault(self)
        self._end(seen, before)
        return self.findings

    def _body(self) -> dict:
        body = {"dataset_id": self.dataset["id"], "teacher": "simulated", "target": self.rng.randint(12, 40)}
        ceiling = self.rng.choice([{}, {}, {"max_requests": 60}, {"max_usd": 0.004}, {"max_tokens": 30_000}])
        return body | ceiling | {"seed": self.rng.randrange(2**30)}

    def _watch(self, seconds: float) -> set[str]:
        """Let the run work for some seconds, and return the ids of its accepted rows, which must stay."""
        seen: set[str] = set()
        for _ in range(max(1, round(seconds / 0.2))):
            let_pass(0.2)
            seen = self._accepted()
        return seen

    def _accepted(self) -> set[str]:
        path = f"/v1/datasets/{self.dataset['id']}/records"
        rows = self.service.get(path, run_id=self.run["id"], status="accepted", limit=200)["data"]
        return {row["id"] for row in rows}

    def _end(self, seen: set[str], before: dict | None) -> None:
        service, findings = self.service, self.findings
        service.wait_alive()
        run = service.wait(self.run, "runs")
        if run["status"] not in ENDED:
            findings.add("not_ended", f"{run['id']} is {run['status']}")
            return
        accepted = self._accepted()
        if seen - accepted:
            findings.add("rows_lost", f"{sorted(seen - accepted)}", len(seen - accepted))
        self._check_promise(run, accepted)
        self._check_pool()
        after = service.settled_stats()
        # Late answers are booked by now.
        run = service.get(f"/v1/runs/{run['id']}")
        self._check_books(run)
        self._check_paid(run, before, after)
        self._check_bill(run, before, after)
        self._check_rest()

    def _check_promise(self, run: dict, accepted: set[str]) -> None:
        reached = run["stop_reason"] == "target_reached"
        if run["status"] != "succeeded":
            self.findings.add("not_ended", f"{run['id']} {run['status']}: {run['stop_reason']}, {run['error']}")
        if (reached and len(accepted) != run["target"]) or len(accepted) != run["counts"]["accepted"]:
            self.findings.add("rows_lost", f"{len(accepted)} rows of {run['target']}; {run['counts']}")
        usage = run["usage"]
        tokens = usage["prompt_tokens"] + usage["completion_tokens"] + usage["unknown_tokens"]
        spent = {"max_requests": usage["requests"], "max_tokens": tokens, "max_usd": Decimal(usage["cost_usd"])}
        for name, value in spent.items():
            if run[name] is not None and value > Decimal(str(run[name])):
                self.findings.add("ceilings_overrun", f"{name}: {value} of {run[name]}")

    def _check_books(self, run: dict) -> None:
        rows = self.service.sql(
            "SELECT status, reason, count(*) FROM records WHERE run_id = :id GROUP BY 1, 2", id=run["id"]
        )
        by_reason = {reason: count for status, reason, count in rows if status == "rejected"}
        accepted = sum(count for status, _, count in rows if status == "accepted")
        counts = run["counts"]
        if (counts["accepted"], counts["rejected_by_reason"]) != (accepted, by_reason):
            self.findings.add("books_wrong", f"{counts} beside rows {accepted}, {by_reason}")
        if counts["offered"] != counts["accepted"] + counts["rejected"] + counts["in_flight"] or counts["in_flight"]:
            self.findings.add("books_wrong", f"{counts}")
        self._check_account(run)
        held = "SELECT id FROM batches WHERE run_id = :id AND status IN ('pending', 'leased', 'waiting')"
        if self.service.sql(held, id=run["id"]):
            self.findings.add("books_wrong", "batches without an owner")

    def _check_account(self, run: dict) -> None:
        """Check that the account's counters equal its completions and lost calls, and no reservation is left."""
        counted = self.service.sql(
            "SELECT cost_usd, prompt_tokens + completion_tokens, reserved_usd, reserved_requests, lost_requests,"
            " held_usd FROM accounts WHERE id = :id",
            id=run["account_id"],
        )
        summed = self.service.sql(
            "SELECT coalesce(sum(cost_usd), 0), coalesce(sum(prompt_tokens + completion_tokens), 0),"
            " coalesce(sum(reserved_usd), 0), 0, coalesce(sum(lost_tries), 0),"
            " (SELECT coalesce(sum(held_usd), 0) FROM lost_calls WHERE account_id = :id)"
            " FROM completions WHERE account_id = :id",
            id=run["account_id"],
        )
        if tuple(counted[0]) != tuple(summed[0]) or run["usage"]["in_flight"]:
            self.findings.add("books_wrong", f"account {tuple(counted[0])} beside rows {tuple(summed[0])}")

    def _check_bill(self, run: dict, before: dict | None, after: dict | None) -> None:
        """Check that the bill is between the certain cost, and the certain cost plus the holds."""
        if not _same_witness(before, after):
            return
        bill, usage = self.service.dollars(after) - self.service.dollars(before), run["usage"]
        certain, held = Decimal(usage["certain_usd"]), Decimal(usage["held_usd"])
        # The ledger rounds each call up.
        rounded = usage["requests"] * Decimal("1e-9")
        if not certain - rounded <= bill <= certain + held:
            self.findings.add("books_wrong", f"the bill is {bill}: {usage}")

    def _check_pool(self) -> None:
        rows = self.service.sql(
            "SELECT id, instruction, embedding FROM records WHERE dataset_id = :id AND pool_position IS NOT NULL"
            " AND group_id = id AND origin = 'generated' ORDER BY pool_position",
            id=self.dataset["id"],
        )
        pool = Pool()
        for id, instruction, embedding in rows:
            vector = np.frombuffer(embedding, dtype=np.float32)
            if pool.check(instruction, vector) is not None:
                self.findings.add("near_duplicates", instruction)
            pool.add(id, instruction, vector)

    def _check_paid(self, run: dict, before: dict | None, after: dict | None) -> None:
        """Check that no request was billed twice, except calls in flight at a kill (unknown calls)."""
        if not _same_witness(before, after):
            return
        twice = [counts["request_hashes"]["billed_more_than_once"] for counts in (before, after)]
        # These calls were lost at a kill and repeated, and then the first answer arrived late_answers.
        late_answers = self.service.sql(
            "SELECT count(*) FROM completions WHERE account_id = :id AND answers > 1", id=run["account_id"]
        )[0][0]
        excess = twice[1] - twice[0] - run["usage"]["unknown_requests"] - late_answers
        if excess > 0:
            self.findings.add(
                "paid_twice", f"{twice}, {run['usage']['unknown_requests']} unknown, {late_answers} late", excess
            )

    def _check_owners(self) -> None:
        """Check that every job and batch in progress has a worker, or gets one within the time of a lease."""
        with suppress(AssertionError):
            until(lambda: not self._without_owner(), 3 * float(FAST["SEEDBED_LEASE_SECONDS"]), every=0.5)
        for name in self._without_owner():
            self.findings.add("not_ended", f"{name} has no owner")

    def _without_owner(self) -> list[str]:
        unowned = []
        for mapper in Table.registry.mappers:
            if issubclass(mapper.class_, Lease):
                query = f"SELECT id, status FROM {mapper.local_table.name} WHERE status IN ({UNDER_WAY})"
                query += " AND (lease_expires_at IS NULL OR lease_expires_at < clock_timestamp())"
                unowned += [f"{mapper.local_table.name} {id}, {status}," for id, status in self.service.sql(query)]
        return unowned

    def _check_rest(self) -> None:
        self._check_owners()
        service = self.service
        id, digest, files = service.snapshot
        if service.get(f"/v1/snapshots/{id}")["digest"] != digest or service._files(id) != files:
            self.findings.add("snapshots_changed", id)
        for process in psutil.process_iter(["cmdline", "ppid"]):
            # A training whose supervisor is gone belongs to init.
            if "workers.recipes" in " ".join(process.info["cmdline"] or []) and process.info["ppid"] == 1:
                self.findings.add("orphans", str(process.info))


def _same_witness(before: dict | None, after: dict | None) -> bool:
    """Return whether the teacher was not restarted between the two counts; a restart sets its counts to 0."""
    return before is not None and after is not None and after["requests"] >= before["requests"]


def _nothing(trial: Trial) -> None:
    """Do nothing. This trial shows that the checks pass without a fault."""


def _kill(*names: str) -> Callable[[Trial], None]:
    def fault(trial: Trial) -> None:
        for name in names:
            trial.service.kill(name)
            let_pass(trial.rng.uniform(0, 0.5))

    return fault


def _kill_one_of_two(trial: Trial) -> None:
    trial.service.end_second()


def _kill_many_times(trial: Trial) -> None:
    for _ in range(3):
        trial.service.kill("generation")
        let_pass(trial.rng.uniform(1, 3))
        trial.service.stack.processes["generation"].start_count = 1


def _flush_redis(trial: Trial) -> None:
    Redis.from_url(trial.service.stack.redis_url).flushall()


def _flush_and_kill_redis(trial: Trial) -> None:
    _flush_redis(trial)
    trial.service.kill("redis")


def _stop(name: str) -> Callable[[Trial], None]:
    """Return a fault that suspends a process for some seconds."""

    def fault(trial: Trial) -> None:
        pid = trial.service.pid(name)
        os.kill(pid, signal.SIGSTOP)
        let_pass(trial.rng.uniform(2, 5))
        os.kill(pid, signal.SIGCONT)

    return fault


def _sleep_past_the_lease(trial: Trial) -> None:
    """Suspend a worker for longer than its lease. When it continues, it has answers that it may no longer store."""
    pid = trial.service.second.pid
    os.kill(pid, signal.SIGSTOP)
    let_pass(float(FAST["SEEDBED_LEASE_SECONDS"]) + 3)
    os.kill(pid, signal.SIGCONT)


def _notify_twice(trial: Trial) -> None:
    """Deliver every wake-up several times: those of the run, of an import and of a snapshot."""
    service = trial.service
    rows = [{"instruction": f"Name {number} of {trial.run['id']}.", "output": "One."} for number in range(20)]
    lines = "\n".join(json.dumps(row) for row in rows)
    imports = f"datasets/{trial.dataset['id']}/imports"
    imported = service.post(f"/v1/{imports}", content=lines)
    exported = service.post("/v1/snapshots", {"dataset_id": _fixed_dataset(service), "include_seeds": True})
    for _ in range(8):
        _notify(service, "generation.run", trial.run["id"])
        _notify(service, "generation.import", imported["id"])
        _notify(service, "exports.snapshot", exported["id"])
        let_pass(trial.rng.uniform(0, 0.3))
    ended = service.wait(exported, "snapshots")
    if ended.get("digest") != service.snapshot[1]:
        trial.findings.add("snapshots_changed", f"{ended['status']}: {ended.get('digest')}")
    ended = service.wait(imported, imports)
    if ended["status"] != "succeeded" or ended["accepted"] + ended["rejected"] != len(rows):
        trial.findings.add("books_wrong", f"an import of {len(rows)} rows: {ended}")


def _notify(service: RunningService, task: str, id: str) -> None:
    from celery import Celery

    with Celery(broker=service.stack.redis_url) as celery:
        celery.conf.broker_transport_options = {"global_keyprefix": "seedbed:"}
        celery.send_task(task, args=[id], queue=task.partition(".")[0])


def _fixed_dataset(service: RunningService) -> str:
    """Return the id of the dataset of the snapshot that must never change."""
    return service.get(f"/v1/snapshots/{service.snapshot[0]}")["dataset_id"]


def _two_sweepers(trial: Trial) -> None:
    service = trial.service
    changes = {"DATABASE_URL": service.stack.database_url, "REDIS_URL": service.stack.redis_url}
    changes |= {
        "SEEDBED_CONFIG": str(service.stack.state_dir.path / "stack.toml"),
        "SEEDBED_HOME": str(service.stack.state_dir.path),
    }
    process = subprocess.Popen(worker("sweeper").argv, env=environment({**FAST, **changes}), stderr=subprocess.DEVNULL)
    let_pass(6)
    service.kill("sweeper")
    let_pass(3)
    process.kill()
    process.wait(PROCESS_SECONDS)


def _late_clock(trial: Trial) -> None:
    trial.service.end_second()
    trial.service.start_second(PYTHONPATH=str(CLOCK))
    let_pass(4)
    trial.service.kill("generation")


def _postgres_away(trial: Trial) -> None:
    """Kill PostgreSQL. The API must answer 503 with a problem document, and recover by itself."""
    service = trial.service
    pid = service.pid("postgres")
    children = psutil.Process(pid).children(recursive=True)
    for process in (psutil.Process(pid), *children):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    seen = set()
    for _ in range(60):
        with suppress(httpx.TransportError):
            answer = service.client.get("/v1/runs")
            seen.add((answer.status_code, answer.headers["content-type"]))
        let_pass(0.05)
    if not seen <= {(200, "application/json"), (503, "application/problem+json")}:
        trial.findings.add("books_wrong", f"the API answered {seen}")


def _both_stores_away(trial: Trial) -> None:
    trial.service.kill("redis")
    _postgres_away(trial)


def _kill_at_the_export(trial: Trial) -> None:
    """Kill the exports worker while it writes. The snapshot must succeed."""
    service = trial.service
    snapshot = service.post("/v1/snapshots", {"dataset_id": _fixed_dataset(service), "include_seeds": True})
    let_pass(trial.rng.uniform(0, 0.4))
    service.kill("exports")
    snapshot = service.wait(snapshot, "snapshots")
    if snapshot["status"] != "succeeded" or snapshot["digest"] != service.snapshot[1]:
        trial.findings.add("not_ended", f"snapshot {snapshot['status']}, {snapshot.get('digest')}")


def _kill_at_the_training(trial: Trial) -> None:
    """Kill the fine-tuning worker or its child. No process may be left, and the job must end or start again."""
    service = trial.service
    body = {"snapshot_id": service.snapshot[0], "base_model": "tiny"}
    fine_tune = service.post("/v1/fine-tunes", body | {"hyperparameters": {"epochs": 1}})
    _notify(service, "finetuning.finetune", fine_tune["id"])
    children = until(lambda: _trainings(service), every=0.2)
    let_pass(trial.rng.uniform(0, 8))
    if trial.rng.random() < 0.5 and children:
        with suppress(psutil.NoSuchProcess):
            children[0].kill()
    else:
        service.kill("finetuning")
    fine_tune = service.wait(fine_tune, "fine-tunes")
    if fine_tune["status"] not in ENDED:
        trial.findings.add("not_ended", f"fine-tune {fine_tune['status']}")
    if fine_tune["status"] == "failed" and fine_tune["stop_reason"] not in ("child_killed", "worker_lost"):
        trial.findings.add("not_ended", f"fine-tune failed: {fine_tune['stop_reason']} {fine_tune['error']}")


def _slow_start(trial: Trial) -> None:
    """Let the fine-tuning worker and its child take 20 seconds each to start. The job must succeed at once."""
    service = trial.service
    old_pid, workers, children = service.pid("finetuning"), set(), set()

    def has_ended() -> bool:
        workers.add(service.pid("finetuning"))
        children.update(child.pid for child in _trainings(service))
        return service._has_ended(fine_tune, "fine-tunes")

    (service.slow_start / "on").touch()
    try:
        service.kill("finetuning")
        body = {"snapshot_id": service.snapshot[0], "base_model": "tiny", "hyperparameters": {"max_steps": 2}}
        fine_tune = service.post("/v1/fine-tunes", body)
        until(has_ended, PATIENCE_SECONDS, every=0.2, message=lambda: fine_tune)
    finally:
        (service.slow_start / "on").unlink()
    if fine_tune["status"] != "succeeded":
        trial.findings.add(
            "not_ended", f"fine-tune {fine_tune['status']}: {fine_tune['stop_reason']}, {fine_tune['error']}"
        )
    started = workers - {old_pid}
    if len(started) != 1 or len(children) != 1:
        trial.findings.add("not_ended", f"started again: workers {started}, children {children}")
    duration = datetime.fromisoformat(fine_tune["finished_at"]) - datetime.fromisoformat(fine_tune["created_at"])
    if duration.total_seconds() < 2 * SLOW_START_SECONDS:
        trial.findings.add("not_ended", f"the starts were not slow: the job duration {duration}")


def _training_that_breaks(
    trial: Trial, break_child: Callable[[psutil.Process], None] | None, reasons: set[str]
) -> None:
    """Start a fine-tune and break it. It must end as failed, with one of the reasons and a message."""
    service = trial.service
    body = {"snapshot_id": service.snapshot[0], "base_model": "tiny", "hyperparameters": {"epochs": 1}}
    fine_tune = service.post("/v1/fine-tunes", body)
    if break_child is not None:
        children = until(lambda: _trainings(service))
        let_pass(trial.rng.uniform(0, 3))
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            break_child(children[0])
    fine_tune = service.wait(fine_tune, "fine-tunes")
    if fine_tune["status"] != "failed" or fine_tune["stop_reason"] not in reasons or not fine_tune["error"]:
        outcome = f"{fine_tune['status']}: {fine_tune['stop_reason']}, {fine_tune['error']}"
        trial.findings.add("not_ended", f"a fine-tune that could not succeed {outcome}")
    if _trainings(service):
        trial.findings.add("orphans", "a training that has fine_tune has left a process")


def _no_place_for_the_training(trial: Trial) -> None:
    """Make the working directory impossible to create."""
    work = trial.service.stack.state_dir.path / "work"
    aside = work.with_name("work-aside")
    if exists := work.exists():
        work.rename(aside)
    work.write_text("not a directory")
    try:
        _training_that_breaks(trial, None, {"storage_unwritable"})
    finally:
        work.unlink()
        if exists:
            aside.rename(work)


def _full_disk_at_the_training(trial: Trial) -> None:
    """Make the model impossible to write: a limit on the size of files replaces a full disk, which needs a disk."""

    def fill(child: psutil.Process) -> None:
        child.rlimit(psutil.RLIMIT_FSIZE, (20_000, 20_000))

    _training_that_breaks(trial, fill, {"storage_full"})


def _no_memory_for_the_training(trial: Trial) -> None:
    """Give the child no more memory, or kill it as the kernel does when memory runs out."""

    def starve(child: psutil.Process) -> None:
        if trial.rng.random() < 0.3:
            child.kill()
        else:
            child.rlimit(psutil.RLIMIT_AS, (1 << 20, 1 << 20))

    _training_that_breaks(trial, starve, {"not_enough_memory", "child_killed"})


def _trainings(service: RunningService) -> list[psutil.Process]:
    processes = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if "workers.recipes" in line and str(service.stack.state_dir.path) in line:
            processes.append(process)
    return processes


def _no_place_for_files(trial: Trial) -> None:
    """Make the directory of snapshots unwritable. The job must report it, and the next job must succeed."""
    service = trial.service
    files = service.stack.state_dir.path / "files"
    aside = files.with_name("files-aside")
    files.rename(aside)
    files.write_text("not a directory")
    dataset = _fixed_dataset(service)
    snapshot = service.wait(service.post("/v1/snapshots", {"dataset_id": dataset, "include_seeds": True}), "snapshots")
    files.unlink()
    aside.rename(files)
    if snapshot["status"] != "failed" or not snapshot["error"]:
        trial.findings.add("not_ended", f"a snapshot without a place: {snapshot['status']}")
    snapshot = service.wait(service.post("/v1/snapshots", {"dataset_id": dataset, "include_seeds": True}), "snapshots")
    if snapshot.get("digest") != service.snapshot[1]:
        trial.findings.add("snapshots_changed", f"{snapshot['status']}: {snapshot.get('digest')}")


def _pause_and_resume(trial: Trial) -> None:
    """Pause the run, kill its worker, and resume the run. It must continue where it stopped."""
    service, path = trial.service, f"/v1/runs/{trial.run['id']}"
    with suppress(RuntimeError):
        service.client.post(f"{path}/pause")
        let_pass(trial.rng.uniform(0.5, 2))
        service.kill("generation")
        let_pass(1)
        service.client.post(f"{path}/resume")
    until(lambda: _resumed(service, path), every=0.5)


def _resumed(service: RunningService, path: str) -> bool:
    if service.get(path)["status"] not in ("pausing", "paused"):
        return True
    with suppress(httpx.HTTPError):
        service.client.post(f"{path}/resume")
    return False


FAULTS: dict[str, Callable[[Trial], None]] = {
    "nothing": _nothing,
    "kill_api": _kill("api"),
    "kill_generation": _kill("generation"),
    "kill_one_of_two": _kill_one_of_two,
    "kill_both_generations": lambda trial: (_kill_one_of_two(trial), trial.service.kill("generation"))[0],
    "kill_generation_thrice": _kill_many_times,
    "kill_sweeper": _kill("sweeper"),
    "kill_teacher": _kill("simulator"),
    "kill_all_workers": _kill("generation", "exports", "sweeper", "api"),
    "kill_at_the_export": _kill_at_the_export,
    "kill_at_the_training": _kill_at_the_training,
    "flush_redis": _flush_redis,
    "kill_redis": _kill("redis"),
    "flush_and_kill_redis": _flush_and_kill_redis,
    "stop_redis": _stop("redis"),
    "stop_teacher": _stop("simulator"),
    "postgres_away": _postgres_away,
    "both_stores_away": _both_stores_away,
    "sleep_past_the_lease": _sleep_past_the_lease,
    "notify_twice": _notify_twice,
    "two_sweepers": _two_sweepers,
    "late_clock": _late_clock,
    "no_place_for_files": _no_place_for_files,
    "no_place_for_the_training": _no_place_for_the_training,
    "full_disk_at_the_training": _full_disk_at_the_training,
    "no_memory_for_the_training": _no_memory_for_the_training,
    "pause_and_resume": _pause_and_resume,
    "slow_start": _slow_start,
}
