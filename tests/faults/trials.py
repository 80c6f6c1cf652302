"""Seeded trials: a job under way, something breaks at a random moment, and what must hold afterwards.

Everything is real: processes, PostgreSQL, Redis, HTTP. The simulated teacher counts what it served and billed; it is
the witness, and our own ledger is what it is asked about.
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
    """What a trial found. Every number must be 0."""

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
    words: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        counts = (self.rows_lost, self.near_duplicates, self.paid_twice, self.ceilings_overrun, self.not_ended)
        return not any((*counts, self.books_wrong, self.orphans, self.snapshots_changed))

    def say(self, name: str, words: str, count: int = 1) -> None:
        setattr(self, name, getattr(self, name) + count)
        self.words.append(f"{name}: {words}")


class Ground:
    """A stack on which trials are made, with a second generation worker beside its own."""

    def __init__(self, home: Path, faults: tuple[str, ...] = ()):
        options = (*LATENCY, *(part for fault in faults for part in ("--fault", fault)))
        # Durable, as in the field: without synchronous commits a killed PostgreSQL forgets what it had promised.
        self.slow_start = home / "slow_start"
        self.slow_start.mkdir(parents=True)
        shutil.copy(SLOW_START, self.slow_start)
        path = os.pathsep.join(part for part in (str(self.slow_start), os.environ.get("PYTHONPATH")) if part)
        env = {**FAST, "PYTHONPATH": path}
        self.stack = Stack(home, port=free_port(), environment=env, simulator_options=options)
        self.second: subprocess.Popen | None = None

    def __enter__(self) -> "Ground":
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
        # Its own files must not stand in for the library's.
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
        """All processes are up again, and the API answers."""
        until(self._is_alive, every=0.1, message="the stack did not come back")

    def _is_alive(self) -> bool:
        for child in self.stack.processes.values():
            # Deaths are our doing: the supervisor need not lose its patience.
            child.start_count = 1
        with suppress(httpx.HTTPError):
            alive = all(child.is_alive for child in self.stack.processes.values())
            return alive and self.client.get("/readyz").json()["status"] == "ready"
        return False

    def get(self, path: str, **params) -> dict:
        """A GET with patience: the API may be the one that was killed."""
        return self._answer(lambda: self.client.get(path, params=params), 503)

    def post(self, path: str, body: dict | None = None, content: str | None = None) -> dict:
        """A POST that a key makes repeatable. `content`: rows, a JSON object a line."""
        key = {"Idempotency-Key": uuid.uuid4().hex}
        if content is not None:
            key["Content-Type"] = "application/jsonl"
        return self._answer(lambda: self.client.post(path, json=body, content=content, headers=key), 409, 503)

    def _answer(self, request: Callable[[], httpx.Response], *passing: int) -> dict:
        """The body of the first answer that is neither a broken connection nor one of the `passing` statuses."""

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
        """What the witness says when it has served all that was in flight."""
        last = self.stats()
        while True:
            let_pass(0.7)
            stats = self.stats()
            if stats == last:
                return last
            last = stats

    def dollars(self, stats: dict) -> Decimal:
        """The bill for what it served."""
        teacher = next(one for one in self.get("/v1/teachers")["data"] if one["name"] == "simulated")
        tokens = stats["tokens"]
        units = (
            (tokens["prompt"] - tokens["cached"]) * Decimal(teacher["prompt_price"]),
            tokens["cached"] * Decimal(teacher["cached_price"]),
            tokens["completion"] * Decimal(teacher["completion_price"]),
        )
        return sum(units) / 1_000_000

    def _first_snapshot(self) -> tuple[str, str, dict[str, str]]:
        """A snapshot that must never change: its id, digest, and the digests of its files as they arrive."""
        dataset = self.post("/v1/datasets", {"name": f"fixed {uuid.uuid4()}", "seeds": {"bundled": "english"}})
        made = self.wait(self.post("/v1/snapshots", {"dataset_id": dataset["id"], "include_seeds": True}), "snapshots")
        return made["id"], made["digest"], self._files(made["id"])

    def _files(self, id: str) -> dict[str, str]:
        found = {}
        for file in self.get(f"/v1/snapshots/{id}")["files"]:
            content = self.client.get(f"/v1/snapshots/{id}/files/{file['name']}").content
            found[file["name"]] = hashlib.sha256(content).hexdigest()
        return found

    def wait(self, job: dict, kind: str, seconds: float = PATIENCE_SECONDS) -> dict:
        """The job as it ended, or as it is when the time is over."""
        job = dict(job)
        with suppress(AssertionError):
            until(lambda: self._has_ended(job, kind), seconds, every=0.2)
        return job

    def _has_ended(self, job: dict, kind: str) -> bool:
        if job["status"] not in ENDED:
            job.update(self.get(f"/v1/{kind}/{job['id']}"))
        return job["status"] in ENDED


class Trial:
    """One run on a dataset of its own, with a fault in it. The same seed makes the same choices."""

    def __init__(self, ground: Ground, seed: int, fault: str):
        self.ground, self.rng = ground, random.Random(f"{seed}/{fault}")
        self.findings = Findings(seed, fault)
        self.fault = FAULTS[fault]

    def work(self) -> Findings:
        ground = self.ground
        ground.wait_alive()
        if ground.second is None:
            ground.start_second()
        before = ground.settled_stats()
        self.dataset = ground.post("/v1/datasets", {"name": f"trial {uuid.uuid4()}", "seeds": {"bundled": "english"}})
        self.run = ground.post("/v1/runs", self._body())
        seen = self._watch(self.rng.uniform(0.3, 6.0))
        self.fault(self)
        self._end(seen, before)
        return self.findings

    def _body(self) -> dict:
        body = {"dataset_id": self.dataset["id"], "teacher": "simulated", "target": self.rng.randint(12, 40)}
        ceiling = self.rng.choice([{}, {}, {"max_requests": 60}, {"max_usd": 0.004}, {"max_tokens": 30_000}])
        return body | ceiling | {"seed": self.rng.randrange(2**30)}

    def _watch(self, seconds: float) -> set[str]:
        """Let the run go on for a while; what it says is accepted by then must stay."""
        seen: set[str] = set()
        for _ in range(max(1, round(seconds / 0.2))):
            let_pass(0.2)
            seen = self._accepted()
        return seen

    def _accepted(self) -> set[str]:
        path = f"/v1/datasets/{self.dataset['id']}/records"
        rows = self.ground.get(path, run_id=self.run["id"], status="accepted", limit=200)["data"]
        return {row["id"] for row in rows}

    def _end(self, seen: set[str], before: dict | None) -> None:
        ground, found = self.ground, self.findings
        ground.wait_alive()
        run = ground.wait(self.run, "runs")
        if run["status"] not in ENDED:
            found.say("not_ended", f"{run['id']} is {run['status']}")
            return
        accepted = self._accepted()
        if seen - accepted:
            found.say("rows_lost", f"{sorted(seen - accepted)}", len(seen - accepted))
        self._check_promise(run, accepted)
        self._check_pool()
        after = ground.settled_stats()
        # Answers that came late are booked by now.
        run = ground.get(f"/v1/runs/{run['id']}")
        self._check_books(run)
        self._check_paid(run, before, after)
        self._check_bill(run, before, after)
        self._check_rest()

    def _check_promise(self, run: dict, accepted: set[str]) -> None:
        reached = run["stop_reason"] == "target_reached"
        if run["status"] != "succeeded":
            self.findings.say("not_ended", f"{run['id']} {run['status']}: {run['stop_reason']}, {run['error']}")
        if (reached and len(accepted) != run["target"]) or len(accepted) != run["counts"]["accepted"]:
            self.findings.say("rows_lost", f"{len(accepted)} rows of {run['target']}; {run['counts']}")
        usage = run["usage"]
        tokens = usage["prompt_tokens"] + usage["completion_tokens"] + usage["unknown_tokens"]
        spent = {"max_requests": usage["requests"], "max_tokens": tokens, "max_usd": Decimal(usage["cost_usd"])}
        for name, value in spent.items():
            if run[name] is not None and value > Decimal(str(run[name])):
                self.findings.say("ceilings_overrun", f"{name}: {value} of {run[name]}")

    def _check_books(self, run: dict) -> None:
        rows = self.ground.sql(
            "SELECT status, reason, count(*) FROM records WHERE run_id = :id GROUP BY 1, 2", id=run["id"]
        )
        by_reason = {reason: count for status, reason, count in rows if status == "rejected"}
        accepted = sum(count for status, _, count in rows if status == "accepted")
        counts = run["counts"]
        if (counts["accepted"], counts["rejected_by_reason"]) != (accepted, by_reason):
            self.findings.say("books_wrong", f"{counts} beside rows {accepted}, {by_reason}")
        if counts["offered"] != counts["accepted"] + counts["rejected"] + counts["in_flight"] or counts["in_flight"]:
            self.findings.say("books_wrong", f"{counts}")
        self._check_account(run)
        held = "SELECT id FROM batches WHERE run_id = :id AND status IN ('pending', 'leased', 'waiting')"
        if self.ground.sql(held, id=run["id"]):
            self.findings.say("books_wrong", "batches without an owner")

    def _check_account(self, run: dict) -> None:
        """The account's counters are the sums of its completions and lost calls; nothing stays reserved."""
        counted = self.ground.sql(
            "SELECT cost_usd, prompt_tokens + completion_tokens, reserved_usd, reserved_requests, lost_requests,"
            " held_usd FROM accounts WHERE id = :id",
            id=run["account_id"],
        )
        summed = self.ground.sql(
            "SELECT coalesce(sum(cost_usd), 0), coalesce(sum(prompt_tokens + completion_tokens), 0),"
            " coalesce(sum(reserved_usd), 0), 0, coalesce(sum(lost_tries), 0),"
            " (SELECT coalesce(sum(held_usd), 0) FROM lost_calls WHERE account_id = :id)"
            " FROM completions WHERE account_id = :id",
            id=run["account_id"],
        )
        if tuple(counted[0]) != tuple(summed[0]) or run["usage"]["in_flight"]:
            self.findings.say("books_wrong", f"account {tuple(counted[0])} beside rows {tuple(summed[0])}")

    def _check_bill(self, run: dict, before: dict | None, after: dict | None) -> None:
        """The certain cost does not exceed the witness's bill; with what is held it does not fall below it."""
        if not _same_witness(before, after):
            return
        bill, usage = self.ground.dollars(after) - self.ground.dollars(before), run["usage"]
        certain, held = Decimal(usage["certain_usd"]), Decimal(usage["held_usd"])
        # Each call is rounded up by itself.
        rounded = usage["requests"] * Decimal("1e-9")
        if not certain - rounded <= bill <= certain + held:
            self.findings.say("books_wrong", f"the bill is {bill}: {usage}")

    def _check_pool(self) -> None:
        rows = self.ground.sql(
            "SELECT id, instruction, embedding FROM records WHERE dataset_id = :id AND pool_position IS NOT NULL"
            " AND group_id = id AND origin = 'generated' ORDER BY pool_position",
            id=self.dataset["id"],
        )
        pool = Pool()
        for id, instruction, embedding in rows:
            vector = np.frombuffer(embedding, dtype=np.float32)
            if pool.check(instruction, vector) is not None:
                self.findings.say("near_duplicates", instruction)
            pool.add(id, instruction, vector)

    def _check_paid(self, run: dict, before: dict | None, after: dict | None) -> None:
        """What the witness billed more than once, less what was in flight at a kill, which is counted as unknown."""
        if not _same_witness(before, after):
            return
        twice = [one["request_hashes"]["billed_more_than_once"] for one in (before, after)]
        # Lost at a kill, asked for again, and answered late all the same.
        late = self.ground.sql(
            "SELECT count(*) FROM completions WHERE account_id = :id AND answers > 1", id=run["account_id"]
        )[0][0]
        more = twice[1] - twice[0] - run["usage"]["unknown_requests"] - late
        if more > 0:
            self.findings.say("paid_twice", f"{twice}, {run['usage']['unknown_requests']} unknown, {late} late", more)

    def _check_owners(self) -> None:
        """What is being worked on has somebody who does, or gets somebody within a lease's time."""
        with suppress(AssertionError):
            until(lambda: not self._without_owner(), 3 * float(FAST["SEEDBED_LEASE_SECONDS"]), every=0.5)
        for name in self._without_owner():
            self.findings.say("not_ended", f"{name} is nobody's")

    def _without_owner(self) -> list[str]:
        found = []
        for mapper in Table.registry.mappers:
            if issubclass(mapper.class_, Lease):
                query = f"SELECT id, status FROM {mapper.local_table.name} WHERE status IN ({UNDER_WAY})"
                query += " AND (lease_expires_at IS NULL OR lease_expires_at < clock_timestamp())"
                found += [f"{mapper.local_table.name} {id}, {status}," for id, status in self.ground.sql(query)]
        return found

    def _check_rest(self) -> None:
        self._check_owners()
        ground = self.ground
        id, digest, files = ground.snapshot
        if ground.get(f"/v1/snapshots/{id}")["digest"] != digest or ground._files(id) != files:
            self.findings.say("snapshots_changed", id)
        for process in psutil.process_iter(["cmdline", "ppid"]):
            # A training whose supervisor is gone belongs to init.
            if "workers.recipes" in " ".join(process.info["cmdline"] or []) and process.info["ppid"] == 1:
                self.findings.say("orphans", str(process.info))


def _same_witness(before: dict | None, after: dict | None) -> bool:
    """Whether the simulated teacher counted on from the one to the other; it forgets when it is killed."""
    return before is not None and after is not None and after["requests"] >= before["requests"]


def _nothing(trial: Trial) -> None:
    """To know that the trial itself is sound."""


def _kill(*names: str) -> Callable[[Trial], None]:
    def fault(trial: Trial) -> None:
        for name in names:
            trial.ground.kill(name)
            let_pass(trial.rng.uniform(0, 0.5))

    return fault


def _kill_one_of_two(trial: Trial) -> None:
    trial.ground.end_second()


def _kill_many_times(trial: Trial) -> None:
    for _ in range(3):
        trial.ground.kill("generation")
        let_pass(trial.rng.uniform(1, 3))
        trial.ground.stack.processes["generation"].start_count = 1


def _flush_redis(trial: Trial) -> None:
    Redis.from_url(trial.ground.stack.redis_url).flushall()


def _flush_and_kill_redis(trial: Trial) -> None:
    _flush_redis(trial)
    trial.ground.kill("redis")


def _stop(name: str) -> Callable[[Trial], None]:
    """Not dead but silent for some seconds."""

    def fault(trial: Trial) -> None:
        pid = trial.ground.pid(name)
        os.kill(pid, signal.SIGSTOP)
        let_pass(trial.rng.uniform(2, 5))
        os.kill(pid, signal.SIGCONT)

    return fault


def _sleep_past_the_lease(trial: Trial) -> None:
    """One worker is stopped for longer than its lease, and wakes up with answers in its hands."""
    pid = trial.ground.second.pid
    os.kill(pid, signal.SIGSTOP)
    let_pass(float(FAST["SEEDBED_LEASE_SECONDS"]) + 3)
    os.kill(pid, signal.SIGCONT)


def _ring_twice(trial: Trial) -> None:
    """Every message comes again, several times: of the run, of an import, of a snapshot."""
    ground = trial.ground
    rows = [{"instruction": f"Name {number} of {trial.run['id']}.", "output": "One."} for number in range(20)]
    lines = "\n".join(json.dumps(row) for row in rows)
    imports = f"datasets/{trial.dataset['id']}/imports"
    imported = ground.post(f"/v1/{imports}", content=lines)
    exported = ground.post("/v1/snapshots", {"dataset_id": _fixed_dataset(ground), "include_seeds": True})
    for _ in range(8):
        _ring(ground, "generation.run", trial.run["id"])
        _ring(ground, "generation.import", imported["id"])
        _ring(ground, "exports.snapshot", exported["id"])
        let_pass(trial.rng.uniform(0, 0.3))
    ended = ground.wait(exported, "snapshots")
    if ended.get("digest") != ground.snapshot[1]:
        trial.findings.say("snapshots_changed", f"{ended['status']}: {ended.get('digest')}")
    ended = ground.wait(imported, imports)
    if ended["status"] != "succeeded" or ended["accepted"] + ended["rejected"] != len(rows):
        trial.findings.say("books_wrong", f"an import of {len(rows)} rows: {ended}")


def _ring(ground: Ground, task: str, id: str) -> None:
    from celery import Celery

    with Celery(broker=ground.stack.redis_url) as bell:
        bell.conf.broker_transport_options = {"global_keyprefix": "seedbed:"}
        bell.send_task(task, args=[id], queue=task.partition(".")[0])


def _fixed_dataset(ground: Ground) -> str:
    """The dataset of the snapshot that must never change."""
    return ground.get(f"/v1/snapshots/{ground.snapshot[0]}")["dataset_id"]


def _two_sweepers(trial: Trial) -> None:
    ground = trial.ground
    changes = {"DATABASE_URL": ground.stack.database_url, "REDIS_URL": ground.stack.redis_url}
    changes |= {
        "SEEDBED_CONFIG": str(ground.stack.state_dir.path / "stack.toml"),
        "SEEDBED_HOME": str(ground.stack.state_dir.path),
    }
    process = subprocess.Popen(worker("sweeper").argv, env=environment({**FAST, **changes}), stderr=subprocess.DEVNULL)
    let_pass(6)
    ground.kill("sweeper")
    let_pass(3)
    process.kill()
    process.wait(PROCESS_SECONDS)


def _late_clock(trial: Trial) -> None:
    trial.ground.end_second()
    trial.ground.start_second(PYTHONPATH=str(CLOCK))
    let_pass(4)
    trial.ground.kill("generation")


def _postgres_away(trial: Trial) -> None:
    """While it is away the API says 503 in words, and comes back by itself."""
    ground = trial.ground
    pid = ground.pid("postgres")
    children = psutil.Process(pid).children(recursive=True)
    for process in (psutil.Process(pid), *children):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    seen = set()
    for _ in range(60):
        with suppress(httpx.TransportError):
            answer = ground.client.get("/v1/runs")
            seen.add((answer.status_code, answer.headers["content-type"]))
        let_pass(0.05)
    if not seen <= {(200, "application/json"), (503, "application/problem+json")}:
        trial.findings.say("books_wrong", f"the API answered {seen}")


def _both_stores_away(trial: Trial) -> None:
    trial.ground.kill("redis")
    _postgres_away(trial)


def _kill_at_the_export(trial: Trial) -> None:
    """The exports worker dies while it writes; the snapshot is made all the same."""
    ground = trial.ground
    made = ground.post("/v1/snapshots", {"dataset_id": _fixed_dataset(ground), "include_seeds": True})
    let_pass(trial.rng.uniform(0, 0.4))
    ground.kill("exports")
    ended = ground.wait(made, "snapshots")
    if ended["status"] != "succeeded" or ended["digest"] != ground.snapshot[1]:
        trial.findings.say("not_ended", f"snapshot {ended['status']}, {ended.get('digest')}")


def _kill_at_the_training(trial: Trial) -> None:
    """The fine-tuning worker dies, or its child does. No process is left, and the job ends or begins again."""
    ground = trial.ground
    asked = {"snapshot_id": ground.snapshot[0], "base_model": "tiny"}
    made = ground.post("/v1/fine-tunes", asked | {"hyperparameters": {"epochs": 1}})
    _ring(ground, "finetuning.finetune", made["id"])
    children = until(lambda: _trainings(ground), every=0.2)
    let_pass(trial.rng.uniform(0, 8))
    if trial.rng.random() < 0.5 and children:
        with suppress(psutil.NoSuchProcess):
            children[0].kill()
    else:
        ground.kill("finetuning")
    ended = ground.wait(made, "fine-tunes")
    if ended["status"] not in ENDED:
        trial.findings.say("not_ended", f"fine-tune {ended['status']}")
    if ended["status"] == "failed" and ended["stop_reason"] not in ("child_killed", "worker_lost"):
        trial.findings.say("not_ended", f"fine-tune failed: {ended['stop_reason']} {ended['error']}")


def _slow_start(trial: Trial) -> None:
    """The fine-tuning worker and its child take 20 seconds each to start. The job succeeds, and nobody starts again."""
    ground = trial.ground
    before, workers, children = ground.pid("finetuning"), set(), set()

    def has_ended() -> bool:
        workers.add(ground.pid("finetuning"))
        children.update(child.pid for child in _trainings(ground))
        return ground._has_ended(made, "fine-tunes")

    (ground.slow_start / "on").touch()
    try:
        ground.kill("finetuning")
        asked = {"snapshot_id": ground.snapshot[0], "base_model": "tiny", "hyperparameters": {"max_steps": 2}}
        made = ground.post("/v1/fine-tunes", asked)
        until(has_ended, PATIENCE_SECONDS, every=0.2, message=lambda: made)
    finally:
        (ground.slow_start / "on").unlink()
    if made["status"] != "succeeded":
        trial.findings.say("not_ended", f"fine-tune {made['status']}: {made['stop_reason']}, {made['error']}")
    started = workers - {before}
    if len(started) != 1 or len(children) != 1:
        trial.findings.say("not_ended", f"started again: workers {started}, children {children}")
    took = datetime.fromisoformat(made["finished_at"]) - datetime.fromisoformat(made["created_at"])
    if took.total_seconds() < 2 * SLOW_START_SECONDS:
        trial.findings.say("not_ended", f"the starts were not slow: the job took {took}")


def _training_that_breaks(trial: Trial, breaks: Callable[[psutil.Process], None] | None, reasons: set[str]) -> None:
    """A fine-tune in whose way something is put ends as failed, with a reason and words for it."""
    ground = trial.ground
    asked = {"snapshot_id": ground.snapshot[0], "base_model": "tiny", "hyperparameters": {"epochs": 1}}
    made = ground.post("/v1/fine-tunes", asked)
    if breaks is not None:
        children = until(lambda: _trainings(ground))
        let_pass(trial.rng.uniform(0, 3))
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            breaks(children[0])
    ended = ground.wait(made, "fine-tunes")
    if ended["status"] != "failed" or ended["stop_reason"] not in reasons or not ended["error"]:
        words = f"{ended['status']}: {ended['stop_reason']}, {ended['error']}"
        trial.findings.say("not_ended", f"a fine-tune that could not succeed {words}")
    if _trainings(ground):
        trial.findings.say("orphans", "a training that has ended has left a process")


def _no_place_for_the_training(trial: Trial) -> None:
    """The working directory can't be made."""
    work = trial.ground.stack.state_dir.path / "work"
    aside = work.with_name("work-aside")
    if there := work.exists():
        work.rename(aside)
    work.write_text("not a directory")
    try:
        _training_that_breaks(trial, None, {"storage_unwritable"})
    finally:
        work.unlink()
        if there:
            aside.rename(work)


def _full_disk_at_the_training(trial: Trial) -> None:
    """The model can't be written: a limit on the size of files stands in for a full disk, which needs a disk."""

    def fill(child: psutil.Process) -> None:
        child.rlimit(psutil.RLIMIT_FSIZE, (20_000, 20_000))

    _training_that_breaks(trial, fill, {"storage_full"})


def _no_memory_for_the_training(trial: Trial) -> None:
    """The child gets no further memory, or is killed by whoever shares it out."""

    def starve(child: psutil.Process) -> None:
        if trial.rng.random() < 0.3:
            child.kill()
        else:
            child.rlimit(psutil.RLIMIT_AS, (1 << 20, 1 << 20))

    _training_that_breaks(trial, starve, {"not_enough_memory", "child_killed"})


def _trainings(ground: Ground) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if "workers.recipes" in line and str(ground.stack.state_dir.path) in line:
            found.append(process)
    return found


def _no_place_for_files(trial: Trial) -> None:
    """The directory of snapshots can't be written: the job says so, and the next one succeeds."""
    ground = trial.ground
    files = ground.stack.state_dir.path / "files"
    aside = files.with_name("files-aside")
    files.rename(aside)
    files.write_text("not a directory")
    dataset = _fixed_dataset(ground)
    made = ground.wait(ground.post("/v1/snapshots", {"dataset_id": dataset, "include_seeds": True}), "snapshots")
    files.unlink()
    aside.rename(files)
    if made["status"] != "failed" or not made["error"]:
        trial.findings.say("not_ended", f"a snapshot without a place: {made['status']}")
    made = ground.wait(ground.post("/v1/snapshots", {"dataset_id": dataset, "include_seeds": True}), "snapshots")
    if made.get("digest") != ground.snapshot[1]:
        trial.findings.say("snapshots_changed", f"{made['status']}: {made.get('digest')}")


def _pause_and_resume(trial: Trial) -> None:
    """Pause, a kill while it is paused, and resume: it goes on exactly there."""
    ground, path = trial.ground, f"/v1/runs/{trial.run['id']}"
    with suppress(RuntimeError):
        ground.client.post(f"{path}/pause")
        let_pass(trial.rng.uniform(0.5, 2))
        ground.kill("generation")
        let_pass(1)
        ground.client.post(f"{path}/resume")
    until(lambda: _resumed(ground, path), every=0.5)


def _resumed(ground: Ground, path: str) -> bool:
    if ground.get(path)["status"] not in ("pausing", "paused"):
        return True
    with suppress(httpx.HTTPError):
        ground.client.post(f"{path}/resume")
    return False


FAULTS: dict[str, Callable[[Trial], None]] = {
    "nothing": _nothing,
    "kill_api": _kill("api"),
    "kill_generation": _kill("generation"),
    "kill_one_of_two": _kill_one_of_two,
    "kill_both_generations": lambda trial: (_kill_one_of_two(trial), trial.ground.kill("generation"))[0],
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
    "ring_twice": _ring_twice,
    "two_sweepers": _two_sweepers,
    "late_clock": _late_clock,
    "no_place_for_files": _no_place_for_files,
    "no_place_for_the_training": _no_place_for_the_training,
    "full_disk_at_the_training": _full_disk_at_the_training,
    "no_memory_for_the_training": _no_memory_for_the_training,
    "pause_and_resume": _pause_and_resume,
    "slow_start": _slow_start,
}
