"""Measures how soon a cancel takes effect: `python -m bench.cancel`. The last line of the output is one JSON object.

Each of the eight types of jobs other than runs is cancelled while it is worked on, with real processes, in several
rounds. The bench measures the seconds from the request until the job is `cancelled`, and searches for incomplete
results. Then each job is cancelled once more while its worker is suspended (SIGSTOP), like a worker that hangs. In this
case the sweeper revokes its lease.
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

MAX_SECONDS = 5.0
WORKERS_BY_KIND = {"snapshot": "exports", "fine-tune": "finetuning", "scoring": "scoring"}
# A job with a child process needs more time until it works. The delay before the cancel is multiplied by this.
DELAY_FACTORS = {"fine-tune": 5, "scoring": 5}
# Enough rows that no job ends before it is cancelled.
SNAPSHOT_ROWS, MAINTENANCE_ROWS, IMPORT_ROWS = 400_000, 12_000, 20_000
# An import of so many rows would take longer than the bench. Each copy has its own instruction.
COPY_ROWS = """
INSERT INTO records (id, dataset_id, origin, status, pool_position, group_id, instruction, input, output, language,
                     content_hash, embedding, simulated, run_id, lineage)
SELECT 'rec_{prefix}' || n, :dataset, 'imported', 'accepted', 1000000 + n, 'rec_{prefix}' || n,
       'Describe item ' || md5(n::text) || ' ' || md5((n * 7)::text), '', 'It is item ' || n || '.', 'en',
       decode(md5('{prefix}' || n), 'hex'), {embedding}, false, {run}, '{{}}'
FROM generate_series(1, :rows) n
"""


def print_progress(line: str) -> None:
    """Print a line to stderr; stdout is for the result."""
    print(line, file=sys.stderr, flush=True)


class Bench:
    """A running stack with its client and a connection to its database."""

    def __init__(self, stack: Stack, client: Seedbed):
        self.stack, self.client = stack, client
        url = f"postgresql+psycopg://{stack.database_url.partition('://')[2]}"
        self.engine = create_engine(url, isolation_level="AUTOCOMMIT")

    def sql(self, query: str, **values) -> list:
        """Execute a statement and return its rows, if it has any."""
        with self.engine.connect() as connection:
            result = connection.execute(text(query), values)
            return list(result) if result.returns_rows else []

    def dataset(self) -> str:
        """Create a dataset with the English seeds and return its id."""
        name = f"cancel {uuid.uuid4()}"
        return self.client.create_dataset(name, seeds={"bundled": "english"})["id"]

    def fill(self, dataset: str, rows: int, run: str | None = None) -> None:
        """Insert accepted rows. All have the vector of one seed, so a worker has to encode that seed first."""
        deadline = time.monotonic() + 120
        seed = "SELECT embedding FROM records WHERE dataset_id = :id AND embedding IS NOT NULL LIMIT 1"
        while not (rows_with_vector := self.sql(seed, id=dataset)) and time.monotonic() < deadline:
            time.sleep(0.5)
        # Ids must differ between two calls for the same dataset.
        prefix = uuid.uuid4().hex
        vector = f"'\\x{bytes(rows_with_vector[0][0]).hex()}'::bytea"
        query = COPY_ROWS.format(prefix=prefix, embedding=vector, run=f"'{run}'" if run else "NULL")
        self.sql(query, dataset=dataset, rows=rows)
        self.sql("UPDATE datasets SET last_pool_position = 1000000 + :rows WHERE id = :id", id=dataset, rows=rows)
        # Without statistics PostgreSQL would plan its queries for the small table of before.
        self.sql("ANALYZE records")

    def small_run(self, dataset: str) -> dict:
        """Make a run of four rows, wait for its end, and return it."""
        return self.client.wait(self.client.start_run(dataset_id=dataset, teacher="simulated", target=4))

    def leftovers(self, job: dict) -> list[str]:
        """Return descriptions of the files, processes and rows that a cancelled job should have removed."""
        state_dir, id = self.stack.state_dir.path, job["id"]
        paths = [path for folder in ("files", "work") for path in (state_dir / folder).rglob("*")]
        leftovers = [str(path) for path in paths if id in str(path)]
        for table in ("new_embeddings", "matches"):
            ((count,),) = self.sql(f"SELECT count(*) FROM {table} WHERE maintenance_job_id = :id", id=id)
            leftovers += [f"{count} rows of {table}"] if count else []
        ((count,),) = self.sql("SELECT count(*) FROM decisions WHERE replaced_by = :id", id=id)
        leftovers += [f"{count} decisions"] if count else []
        # A recipe has the path of its working folder, and so the job's id, in its command line.
        for process in psutil.process_iter(["cmdline"]):
            if id in " ".join(process.info["cmdline"] or []):
                leftovers.append(f"process {process.pid}")
        if id.startswith("imp_"):
            ((stored,),) = self.sql("SELECT count(*) FROM records WHERE import_id = :id", id=id)
            if stored != job["accepted"] + job["rejected"]:
                leftovers.append(f"{stored} rows of an import that counts {job['accepted'] + job['rejected']}")
        return leftovers


def prepare_jobs(bench: Bench, folder: Path) -> dict[str, Callable[[], dict]]:
    """Create the datasets and files, and return a function for each type of job that starts a long job of it."""
    client = bench.client
    print_progress("rows …")
    large, reviewed, imported = bench.dataset(), bench.dataset(), bench.dataset()
    run = bench.small_run(reviewed)["id"]
    bench.fill(large, SNAPSHOT_ROWS)
    bench.fill(reviewed, MAINTENANCE_ROWS, run)
    small = client.wait(client.start_snapshot(dataset_id=imported, include_seeds=True))
    upload, questions = folder / "rows.jsonl", folder / "questions.jsonl"
    lines = ({"instruction": row, "output": "x"} for row in make_distinct_texts(IMPORT_ROWS))
    upload.write_text("".join(json.dumps(line) + "\n" for line in lines))
    questions.write_text("".join(json.dumps({"text": row}) + "\n" for row in make_distinct_texts(2000)))
    evaluation = client.add_evaluation_set(f"set {uuid.uuid4()}", questions)["id"]
    return {
        "import": lambda: client.import_file(imported, upload),
        "snapshot": lambda: client.start_snapshot(dataset_id=large, include_seeds=True),
        "fine-tune": lambda: client.start_fine_tune(snapshot_id=small["id"], hyperparameters={"max_steps": 100_000}),
        "scoring": lambda: client.start_likelihood_scores(dataset_id=reviewed),
        "refilter": lambda: client.refilter(run, apply=True, lexical_threshold=0.6),
        "decontamination": lambda: client.decontaminate(reviewed, [evaluation], ngram=5, action="drop"),
        "reencoding": lambda: client.reencode(reviewed),
        "judgement": lambda: client.start_judgement(dataset_id=reviewed, teacher="simulated", reject=True),
    }


def make_distinct_texts(count: int) -> list[str]:
    """Return texts of eight words that share no word, so that no two are duplicates."""
    return [" ".join(uuid.uuid5(uuid.NAMESPACE_OID, f"{n}/{k}").hex[:7] for k in range(8)) for n in range(count)]


def wait_until_working(client: Seedbed, job: dict, seconds: float) -> dict:
    """Wait until a worker has claimed the job and has worked on it for `seconds`. Return the state of the job."""
    deadline = time.monotonic() + 120
    while job["status"] == "queued" and time.monotonic() < deadline:
        time.sleep(0.1)
        job = client.get(job["id"], job.get("dataset_id"))
    time.sleep(seconds)
    return client.get(job["id"], job.get("dataset_id"))


@contextmanager
def suspend(pid: int | None):
    """Suspend a process and its children (SIGSTOP) during the `with` block; None suspends nothing."""
    processes = [] if pid is None else [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            # A process that ended during the suspension needs no signal, and its id may belong to another program now.
            if process.is_running():
                process.send_signal(signal.SIGCONT)


def measure_cancel(
    bench: Bench, kind: str, start_job: Callable[[], dict], delay_seconds: float, suspend_worker: bool
) -> dict:
    """Start a job, cancel it after a delay, and return the seconds until it was cancelled and its leftovers."""
    job = wait_until_working(bench.client, start_job(), delay_seconds * DELAY_FACTORS.get(kind, 1))
    name = WORKERS_BY_KIND.get(kind, "generation")
    with suspend(bench.stack.processes[name].pid if suspend_worker else None):
        started = time.monotonic()
        cancelled = bench.client.act(job["id"], "cancel", job.get("dataset_id"))
        cancelled = bench.client.wait(cancelled)
        seconds = time.monotonic() - started
    events = [event["type"] for event in bench.client.events(job["id"], dataset_id=job.get("dataset_id"))]
    leftovers = wait_for_cleanup(bench, cancelled)
    result = {
        "before": job["status"],
        "status": cancelled["status"],
        "seconds": round(seconds, 2),
        "by": "sweeper" if "lease_taken_away" in events else "worker",
        "leftovers": leftovers,
    }
    print_progress(f"  {kind}{', worker stopped' if suspend_worker else ''}: {json.dumps(result)}")
    return result


def wait_for_cleanup(bench: Bench, job: dict) -> list[str]:
    """Return the leftovers of a job after a late worker has had up to 60 seconds to remove them."""
    deadline = time.monotonic() + 60
    while (leftovers := bench.leftovers(job)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return leftovers


def main() -> None:
    """Measure all types of jobs; the exit status is 1 if a cancel took too long or left anything."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", help="this kind alone")
    arguments = options.parse_args()
    # The operator's own teachers would be paid for this.
    os.environ.pop("SEEDBED_CONFIG", None)
    folder = Path(tempfile.mkdtemp(prefix="seedbed-bench-"))
    results: dict[str, list[dict]] = {}
    results_suspended: dict[str, dict] = {}
    with Stack(folder / "stack", durable=False) as stack, Seedbed(stack.url, stack.api_key) as client:
        bench = Bench(stack, client)
        kinds = {k: start_job for k, start_job in prepare_jobs(bench, folder).items() if arguments.only in (None, k)}
        for number in range(arguments.rounds):
            for kind, start_job in kinds.items():
                results.setdefault(kind, []).append(measure_cancel(bench, kind, start_job, 1.0 + 0.7 * number, False))
        for kind, start_job in kinds.items():
            results_suspended[kind] = measure_cancel(bench, kind, start_job, 1.5, True)
    all_results = [result for rounds in results.values() for result in rounds] + list(results_suspended.values())
    print(json.dumps(summarise(results, results_suspended, all_results)))
    sys.exit(0 if all(result["seconds"] < MAX_SECONDS and not result["leftovers"] for result in all_results) else 1)


def summarise(results: dict[str, list[dict]], results_suspended: dict[str, dict], all_results: list[dict]) -> dict:
    """Return the result of the bench: the slowest cancel of each type of job, and counts of what went wrong."""
    return {
        "bench": "cancel",
        "cores": psutil.cpu_count(),
        "seconds": {kind: max(result["seconds"] for result in rounds) for kind, rounds in results.items()},
        "seconds_worker_stopped": {kind: result["seconds"] for kind, result in results_suspended.items()},
        "by": {kind: [result["by"] for result in rounds] for kind, rounds in results.items()},
        "most_seconds": max(result["seconds"] for result in all_results),
        "not_in_the_middle": sum(result["before"] != "running" for result in all_results),
        "not_cancelled": sum(result["status"] != "cancelled" for result in all_results),
        "leftovers": sum(len(result["leftovers"]) for result in all_results),
        "reached": all(result["seconds"] < MAX_SECONDS for result in all_results),
    }


if __name__ == "__main__":
    main()
