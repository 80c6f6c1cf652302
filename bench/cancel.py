"""How soon a cancel takes effect: `python -m bench.cancel`. The last line printed is one JSON object.

Each of the eight kinds of jobs that are no runs is cancelled in the middle of its work, with real processes, in several
rounds: seconds from the request until the job is `cancelled`, and what is left of it afterwards. Then once more with
its worker stopped (SIGSTOP) at the moment of the request, as a worker that hangs: the sweeper takes its lease away.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import psutil
from sqlalchemy import create_engine, text

from app.client import Seedbed
from app.stack import Stack

WANTED_SECONDS = 5.0
WORKER_OF = {"snapshot": "exports", "fine-tune": "finetuning", "scoring": "scoring"}
# How much later, than a job without a child process, one that has one is in the middle of its work.
CHILD_TIMES = {"fine-tune": 5, "scoring": 5}
# Long enough that each kind is in the middle of its work.
SNAPSHOT_ROWS, REVIEW_ROWS, IMPORT_ROWS = 400_000, 12_000, 20_000
# Copies of a row of the dataset, each with an instruction of its own.
COPY_ROWS = """
INSERT INTO records (id, dataset_id, origin, status, pool_position, family, instruction, input, output, language,
                     content_hash, embedding, simulated, run_id, lineage)
SELECT 'rec_{prefix}' || n, :dataset, 'imported', 'accepted', 1000000 + n, 'rec_{prefix}' || n,
       'Describe item ' || md5(n::text) || ' ' || md5((n * 7)::text), '', 'It is item ' || n || '.', 'en',
       decode(md5('{prefix}' || n), 'hex'), {embedding}, false, {run}, '{{}}'
FROM generate_series(1, :rows) n
"""


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


class Bench:
    def __init__(self, stack: Stack, client: Seedbed):
        self.stack, self.client = stack, client
        url = f"postgresql+psycopg://{stack.database_url.partition('://')[2]}"
        self.engine = create_engine(url, isolation_level="AUTOCOMMIT")

    def sql(self, query: str, **values) -> list:
        with self.engine.connect() as connection:
            result = connection.execute(text(query), values)
            return list(result) if result.returns_rows else []

    def dataset(self) -> str:
        name = f"cancel {uuid.uuid4()}"
        return self.client.create_dataset(name, seeds={"bundled": "english"})["id"]

    def fill(self, dataset: str, rows: int, run: str | None = None) -> None:
        """Rows as an import would have left them; all have the vector of a seed."""
        until = time.monotonic() + 120
        seed = "SELECT embedding FROM records WHERE dataset_id = :id AND embedding IS NOT NULL LIMIT 1"
        while not (found := self.sql(seed, id=dataset)) and time.monotonic() < until:
            time.sleep(0.5)
        prefix = uuid.uuid4().hex
        vector = f"'\\x{bytes(found[0][0]).hex()}'::bytea"
        query = COPY_ROWS.format(prefix=prefix, embedding=vector, run=f"'{run}'" if run else "NULL")
        self.sql(query, dataset=dataset, rows=rows)
        self.sql("UPDATE datasets SET last_pool_position = 1000000 + :rows WHERE id = :id", id=dataset, rows=rows)
        self.sql("ANALYZE records")

    def small_run(self, dataset: str) -> dict:
        return self.client.wait(self.client.start_run(dataset_id=dataset, teacher="simulated", target=4))

    def leftovers(self, job: dict) -> list[str]:
        """Files, folders, processes and rows that the job has left half stored."""
        home, id = self.stack.state_dir.path, job["id"]
        found = [str(path) for place in ("files", "work") for path in (home / place).rglob("*") if id in str(path)]
        for table in ("new_embeddings", "matches"):
            ((count,),) = self.sql(f"SELECT count(*) FROM {table} WHERE review_id = :id", id=id)
            found += [f"{count} rows of {table}"] if count else []
        ((count,),) = self.sql("SELECT count(*) FROM decisions WHERE replaced_by = :id", id=id)
        found += [f"{count} decisions"] if count else []
        for process in psutil.process_iter(["cmdline"]):
            if id in " ".join(process.info["cmdline"] or []):
                found.append(f"process {process.pid}")
        if id.startswith("imp_"):
            ((stored,),) = self.sql("SELECT count(*) FROM records WHERE import_id = :id", id=id)
            if stored != job["accepted"] + job["rejected"]:
                found.append(f"{stored} rows of an import that counts {job['accepted'] + job['rejected']}")
        return found


def orders(bench: Bench, folder: Path) -> dict[str, Callable[[], dict]]:
    """What begins a long job of each kind."""
    client = bench.client
    say("rows …")
    large, reviewed, imported = bench.dataset(), bench.dataset(), bench.dataset()
    run = bench.small_run(reviewed)["id"]
    bench.fill(large, SNAPSHOT_ROWS)
    bench.fill(reviewed, REVIEW_ROWS, run)
    small = client.wait(client.start_snapshot(dataset_id=imported, include_seeds=True))
    upload, questions = folder / "rows.jsonl", folder / "questions.jsonl"
    lines = ({"instruction": row, "output": "x"} for row in unlike_texts(IMPORT_ROWS))
    upload.write_text("".join(json.dumps(line) + "\n" for line in lines))
    questions.write_text("".join(json.dumps({"text": row}) + "\n" for row in unlike_texts(2000)))
    evaluation = client.add_evaluation_set(f"set {uuid.uuid4()}", questions)["id"]
    return {
        "import": lambda: client.import_file(imported, upload),
        "snapshot": lambda: client.start_snapshot(dataset_id=large, include_seeds=True),
        "fine-tune": lambda: client.start_fine_tune(snapshot_id=small["id"], hyperparameters={"max_steps": 100_000}),
        "scoring": lambda: client.start_scoring(dataset_id=reviewed),
        "refilter": lambda: client.refilter(run, apply=True, lexical_threshold=0.6),
        "decontamination": lambda: client.decontaminate(reviewed, [evaluation], ngram=5, action="drop"),
        "reencoding": lambda: client.reencode(reviewed),
        "judgement": lambda: client.start_judgement(dataset_id=reviewed, teacher="simulated", reject=True),
    }


def unlike_texts(count: int) -> list[str]:
    """Texts of eight words of which no other text has any."""
    return [" ".join(uuid.uuid5(uuid.NAMESPACE_OID, f"{n}/{k}").hex[:7] for k in range(8)) for n in range(count)]


def in_the_middle(client: Seedbed, job: dict, seconds: float) -> dict:
    """The job, when it has been worked on for some seconds."""
    until = time.monotonic() + 120
    while job["status"] == "queued" and time.monotonic() < until:
        time.sleep(0.1)
        job = client.get(job["id"], job.get("dataset_id"))
    time.sleep(seconds)
    return client.get(job["id"], job.get("dataset_id"))


@contextmanager
def stopped(pid: int | None):
    """The process and its children do nothing meanwhile."""
    processes = [] if pid is None else [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            if process.is_running():
                process.send_signal(signal.SIGCONT)


def cancel(bench: Bench, kind: str, order: Callable[[], dict], after: float, stop: bool) -> dict:
    """Cancel one job in the middle of its work; the seconds that it took, and what is left."""
    job = in_the_middle(bench.client, order(), after * CHILD_TIMES.get(kind, 1))
    name = WORKER_OF.get(kind, "generation")
    with stopped(bench.stack.processes[name].pid if stop else None):
        began = time.monotonic()
        ended = bench.client.act(job["id"], "cancel", job.get("dataset_id"))
        ended = bench.client.wait(ended)
        seconds = time.monotonic() - began
    events = [event["type"] for event in bench.client.events(job["id"], dataset_id=job.get("dataset_id"))]
    left = settled_leftovers(bench, ended)
    found = {
        "before": job["status"],
        "status": ended["status"],
        "seconds": round(seconds, 2),
        "by": "sweeper" if "lease_taken_away" in events else "worker",
        "leftovers": left,
    }
    say(f"  {kind}{', worker stopped' if stop else ''}: {json.dumps(found)}")
    return found


def settled_leftovers(bench: Bench, job: dict) -> list[str]:
    """What is left when a late worker has had the time to notice."""
    until = time.monotonic() + 60
    while (left := bench.leftovers(job)) and time.monotonic() < until:
        time.sleep(0.5)
    return left


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", help="this kind alone")
    given = options.parse_args()
    os.environ.pop("SEEDBED_CONFIG", None)
    folder = Path(tempfile.mkdtemp(prefix="seedbed-bench-"))
    found: dict[str, list[dict]] = {}
    late: dict[str, dict] = {}
    with Stack(folder / "stack", durable=False) as stack, Seedbed(stack.url, stack.api_key) as client:
        bench = Bench(stack, client)
        kinds = {k: order for k, order in orders(bench, folder).items() if given.only in (None, k)}
        for number in range(given.rounds):
            for kind, order in kinds.items():
                found.setdefault(kind, []).append(cancel(bench, kind, order, 1.0 + 0.7 * number, False))
        for kind, order in kinds.items():
            late[kind] = cancel(bench, kind, order, 1.5, True)
    every = [one for rounds in found.values() for one in rounds] + list(late.values())
    print(json.dumps(summary(found, late, every)))
    sys.exit(0 if all(one["seconds"] < WANTED_SECONDS and not one["leftovers"] for one in every) else 1)


def summary(found: dict[str, list[dict]], late: dict[str, dict], every: list[dict]) -> dict:
    return {
        "bench": "cancel",
        "cores": psutil.cpu_count(),
        "seconds": {kind: max(one["seconds"] for one in rounds) for kind, rounds in found.items()},
        "seconds_worker_stopped": {kind: one["seconds"] for kind, one in late.items()},
        "by": {kind: [one["by"] for one in rounds] for kind, rounds in found.items()},
        "most_seconds": max(one["seconds"] for one in every),
        "not_in_the_middle": sum(one["before"] != "running" for one in every),
        "not_cancelled": sum(one["status"] != "cancelled" for one in every),
        "leftovers": sum(len(one["leftovers"]) for one in every),
        "reached": all(one["seconds"] < WANTED_SECONDS for one in every),
    }


if __name__ == "__main__":
    main()
