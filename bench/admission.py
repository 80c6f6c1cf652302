"""Measures the cost of admission: `make bench-admission`. The last line of the output is one JSON object.

Both sides of a ratio are measured in the same run, so that results of different machines compare. `--only lexical,lock`
runs only these parts.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.rows import draw_unit_vectors, load_pool_texts, load_texts, perturb_texts

# What each figure should reach. `_figures` knows which goals are upper bounds.
GOALS = {
    "lexical_times_rouge_score": 1000,
    "lexical_times_rapidfuzz_at_100k": 12,
    "lexical_growth_10k_to_100k": 6,
    "lock_ms_per_candidate_at_50k": 1.0,
    "race_near_duplicates": 0,
    "million_peak_gb": 8,
    "encoding_bf16_times_fp32": 2,
    "encoding_decisions_that_differ": 0.01,
}
# The number of dimensions of the bundled encoder.
DIMENSIONS = 384


def print_progress(line: str) -> None:
    """Print a line to stderr; stdout is for the result."""
    print(line, file=sys.stderr, flush=True)


def rouge() -> dict:
    """Compare the lexical index (mode `paper`) with rouge_score as Self-Instruct uses it: speed, and equal decisions.

    3,000 candidates are offered to a growing pool.
    """
    from rouge_score import rouge_scorer

    from app.synth.novelty.lexical import LexicalIndex

    texts, source = load_texts()
    originals = texts[:2500]
    texts = [*originals, *perturb_texts(originals, 500, 0.12, 3)]
    random.Random(4).shuffle(texts)

    started, index, our_decisions = time.perf_counter(), LexicalIndex("paper"), []
    for text in texts:
        our_decisions.append(index.nearest(text) is not None)
        if not our_decisions[-1]:
            index.add(text)
            index.reorder()
    our_seconds = time.perf_counter() - started

    # The settings of the published code of Self-Instruct.
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    pool: list[str] = []
    their_decisions, started = [], time.perf_counter()
    for n, text in enumerate(texts):
        nearest = max((scorer.score(other, text)["rougeL"].fmeasure for other in pool), default=0.0)
        their_decisions.append(nearest > 0.7)
        if not their_decisions[-1]:
            pool.append(text)
        if n % 250 == 0:
            print_progress(f"  rouge_score {n}/{len(texts)}, {time.perf_counter() - started:.0f} s")
    their_seconds = time.perf_counter() - started
    return {
        "rows": source,
        "candidates": len(texts),
        "duplicates": sum(our_decisions),
        "decisions_that_differ": sum(a != b for a, b in zip(our_decisions, their_decisions, strict=True)),
        "rouge_score_s": round(their_seconds, 2),
        "ours_s": round(our_seconds, 4),
        "lexical_times_rouge_score": round(their_seconds / our_seconds, 1),
    }


def lexical() -> dict:
    """Measure queries of the lexical index on one core, with pools of 10k and 100k, and rapidfuzz without an index."""
    from rapidfuzz import process
    from rapidfuzz.distance import Indel

    from app.synth.novelty.lexical import LexicalIndex

    texts, source = load_pool_texts(100_000)
    queries = [*perturb_texts(texts[:10_000], 250, 0.12, 5), *perturb_texts(texts[:10_000], 250, 0.55, 6)]
    index, costs = LexicalIndex("unicode"), {}
    for n, text in enumerate(texts, 1):
        index.add(text)
        if n in (10_000, 100_000):
            # A worker does this after it has loaded a pool, so it is not part of the measured time.
            index.reorder()
            started = time.perf_counter()
            matches = [index.nearest(query) for query in queries]
            costs[n] = (time.perf_counter() - started) / len(queries) * 1e3
            duplicates = sum(match is not None for match in matches)
            print_progress(f"  {n} rows: {costs[n]:.3f} ms a candidate, {duplicates} duplicates")
    sample = queries[::10]
    # The same encoded sequences, so that only the search differs.
    sequences = [index._encode_query(_tokens(query)) for query in sample]
    started = time.perf_counter()
    nearest_by_rapidfuzz = [
        process.extractOne(sequence, index._sequences, scorer=Indel.normalized_similarity, score_cutoff=0.7)
        for sequence in sequences
    ]
    rapidfuzz_ms = (time.perf_counter() - started) / len(sample) * 1e3
    is_duplicate = [match is not None and match[1] > 0.7 for match in nearest_by_rapidfuzz]
    different = sum(a != (b is not None) for a, b in zip(is_duplicate, matches[::10], strict=True))
    return {
        "rows": source,
        "ms_at_10k": round(costs[10_000], 4),
        "ms_at_100k": round(costs[100_000], 4),
        "candidates_per_s_at_100k": round(1e3 / costs[100_000]),
        "rapidfuzz_whole_pool_ms": round(rapidfuzz_ms, 2),
        "lexical_times_rapidfuzz_at_100k": round(rapidfuzz_ms / costs[100_000], 1),
        "lexical_growth_10k_to_100k": round(costs[100_000] / costs[10_000], 2),
        "decisions_unlike_rapidfuzz": different,
        "index_mb_at_100k": round(index.nbytes / 2**20),
    }


def _tokens(text: str) -> list[str]:
    from app.synth.text import tokenise

    return tokenise(text)


class Database:
    """PostgreSQL of the embedded stack with the tables, for the parts that admit rows."""

    def __enter__(self):
        import os

        from app import config
        from app.persistence import db, migrate
        from app.stack import Stack

        self.stack = Stack(Path(tempfile.mkdtemp(prefix="seedbed-bench-")), only=("postgres", "redis"))
        self.stack.__enter__()
        os.environ["DATABASE_URL"], os.environ["REDIS_URL"] = self.stack.database_url, self.stack.redis_url
        # These functions cache their results, and the addresses have changed.
        for cached in (config.settings, db.engine, db._sessions):
            cached.cache_clear()
        migrate.upgrade()
        return self

    def __exit__(self, *error) -> None:
        from app.persistence.db import engine

        engine().dispose()
        self.stack.__exit__(*error)


def _dataset(name: str):
    from app.access import service as access
    from app.access.service import Caller
    from app.datasets import service
    from app.datasets.schemas import DatasetCreate
    from app.persistence.db import transaction

    with transaction() as session:
        project = access.ensure_project(session, "bench")
        return service.create(session, Caller(project.id, "bench"), DatasetCreate(name=name))


def _encoders(name: str, dtype: str | None):
    """Return an encoder for `Pools`. The candidates bring their vectors, so the encoder is never called for them."""
    from app.synth.types import Encoder

    return Encoder(
        lambda texts: draw_unit_vectors(len(texts), DIMENSIONS, 9),
        {"name": name, "dtype": "float32", "revision": "bench"},
    )


def _offer(pools, dataset, texts: list[str], vectors: np.ndarray):
    from app.datasets.admission import Origin, admit
    from app.synth.types import Candidate

    candidates = [Candidate(text, "", "An answer.") for text in texts]
    with pools.precheck_and_lock(dataset.id, candidates, list(vectors)) as offer:
        return admit(offer.session, offer.dataset, candidates, list(vectors), Origin("generated"), offer.precheck)


def lock() -> dict:
    """Measure admission of 100 candidates at a time into a pool of 50k rows on PostgreSQL.

    A second set of pools admits between the measurements, so that the measured one is never up to date under the lock.
    """
    from app.datasets import store
    from app.datasets.pools import Pools

    size, at_once, rounds = 50_000, 100, 30
    texts, source = load_pool_texts(size + 10 * at_once)
    vectors = draw_unit_vectors(len(texts), DIMENSIONS, 7)
    with Database():
        dataset = _dataset("lock")
        pools, other_pools = Pools(_encoders), Pools(_encoders)
        pools.load_encoder(dataset)
        _fill(dataset, texts[:size], vectors[:size])
        started = time.perf_counter()
        pools.prepare(dataset)
        cold_start_seconds = time.perf_counter() - started
        other_pools.prepare(dataset)
        locked_at, lock_seconds, total_seconds = [], [], []
        lock_dataset = store.lock_dataset

        def lock_and_note_time(session, id):
            row = lock_dataset(session, id)
            locked_at.append(time.perf_counter())
            return row

        # The time of the lock is only known inside of admission, so the function that takes it is replaced.
        store.lock_dataset = lock_and_note_time
        offered_texts = perturb_texts(texts[:size], 2 * rounds * at_once, 0.4, 8)
        offered_vectors = draw_unit_vectors(len(offered_texts), DIMENSIONS, 10)
        accepted = 0
        for n in range(rounds):
            others, ours = (
                slice(2 * n * at_once, (2 * n + 1) * at_once),
                slice((2 * n + 1) * at_once, (2 * n + 2) * at_once),
            )
            _offer(other_pools, dataset, offered_texts[others], offered_vectors[others])
            started = time.perf_counter()
            accepted += _offer(pools, dataset, offered_texts[ours], offered_vectors[ours]).accepted
            lock_seconds.append(time.perf_counter() - locked_at[-1])
            total_seconds.append(time.perf_counter() - started)
        store.lock_dataset = lock_dataset
    return {
        "rows": source,
        "pool": size,
        "at_once": at_once,
        "accepted_of_offered": round(accepted / (rounds * at_once), 3),
        "cold_start_s": round(cold_start_seconds, 2),
        "lock_ms_per_candidate_at_50k": round(float(np.median(lock_seconds)) / at_once * 1e3, 4),
        "lock_ms_per_candidate_worst": round(max(lock_seconds) / at_once * 1e3, 4),
        "whole_ms_per_candidate": round(float(np.median(total_seconds)) / at_once * 1e3, 4),
    }


def _fill(dataset, texts: list[str], vectors: np.ndarray) -> None:
    """Insert accepted rows directly into the table, since their admission would take longer than the measurement."""
    from app.datasets import store
    from app.persistence.db import transaction
    from app.persistence.ids import new_id
    from app.synth.text import content_hash

    for start in range(0, len(texts), 5000):
        rows = []
        for n in range(start, min(start + 5000, len(texts))):
            id = new_id("rec")
            row = {"id": id, "group_id": id, "dataset_id": dataset.id, "origin": "imported", "status": "accepted"}
            row |= {"pool_position": n + 1, "instruction": texts[n], "input": "", "output": "x", "language": "en"}
            row |= {"content_hash": content_hash(texts[n], str(n)), "embedding": vectors[n].tobytes(), "lineage": {}}
            rows.append(row)
        with transaction() as session:
            store.insert_records(session, rows)
            locked = store.lock_dataset(session, dataset.id)
            locked.last_pool_position = locked.accepted_count = start + len(rows)
        print_progress(f"  filled {start + len(rows)} rows")


def race() -> dict:
    """Let 4 processes offer the same 2,000 candidates in random orders, and count near-duplicates in the result.

    Half of the candidates are perturbed copies of the others. The result must have no near-duplicate.
    """
    from sqlalchemy import func, select

    from app.persistence.db import transaction
    from app.synth.novelty.pool import Pool
    from app.tables.datasets import Dataset, Record

    processes, count = 4, 2000
    base = load_texts()[0][: count // 2]
    texts = [*base, *perturb_texts(base, count - len(base), 0.12, 11)]
    vectors = _encode("float32", texts)[0]
    with Database() as database:
        dataset = _dataset("race")
        folder = Path(tempfile.mkdtemp(prefix="seedbed-race-"))
        np.save(folder / "vectors.npy", vectors)
        (folder / "texts.json").write_text(json.dumps(texts))
        environment = {"DATABASE_URL": database.stack.database_url, "REDIS_URL": database.stack.redis_url}
        workers = [_racer(folder, dataset.id, seed, environment) for seed in range(processes)]
        offered = sum(int(worker.communicate()[0].split()[-1]) for worker in workers)
        with transaction() as session:
            row = session.get(Dataset, dataset.id)
            is_accepted = (Record.dataset_id == dataset.id, Record.pool_position.is_not(None))
            # In the order of admission: each row is compared with the rows before it, as admission did.
            accepted = session.execute(
                select(Record.instruction, Record.embedding).where(*is_accepted).order_by(Record.pool_position)
            ).all()
            rows = session.scalar(select(func.count()).where(Record.dataset_id == dataset.id))
            decided = row.accepted_count + row.rejected_count
    near_duplicates, pool = 0, Pool()
    for n, (text, stored) in enumerate(accepted):
        vector = np.frombuffer(stored, dtype=np.float32)
        near_duplicates += pool.check(text, vector) is not None
        pool.add(str(n), text, vector)
    return {
        "processes": processes,
        "offered": offered,
        "accepted": len(accepted),
        "rejected": decided - len(accepted),
        "books_balance": offered == decided == rows,
        "race_near_duplicates": near_duplicates,
    }


def _racer(folder: Path, dataset_id: str, seed: int, environment: dict) -> subprocess.Popen:
    import os

    command = [sys.executable, "-m", "bench.admission", "--race", str(folder), dataset_id, str(seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | environment)


def _race_one(folder: Path, dataset_id: str, seed: int) -> None:
    from app.datasets.pools import Pools
    from app.persistence.db import transaction
    from app.tables.datasets import Dataset

    texts, vectors = json.loads((folder / "texts.json").read_text()), np.load(folder / "vectors.npy")
    # Each process has another order, so that near-duplicates arrive in different processes at the same time.
    order = list(range(len(texts)))
    random.Random(seed).shuffle(order)
    with transaction() as session:
        dataset = session.get(Dataset, dataset_id)
    pools, offered = Pools(_encoders), 0
    pools.load_encoder(dataset)
    for start in range(0, len(order), 50):
        part = order[start : start + 50]
        offered += _offer(pools, dataset, [texts[n] for n in part], vectors[part]).offered
    print(offered)


def million() -> dict:
    """Build a pool of 1,000,000 rows and offer 2,000 candidates to it."""
    # The peak of a process's memory never falls, so this part needs its own process.
    command = [sys.executable, "-m", "bench.admission", "--million", "1000000"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])


def _million(size: int) -> None:
    from app.synth.novelty.pool import Pool

    texts, source = load_pool_texts(size)
    vectors = draw_unit_vectors(size, DIMENSIONS, 12)
    pool, started = Pool(), time.perf_counter()
    for n in range(size):
        pool.add(f"rec_{n:032x}", texts[n], vectors[n])
        if (n + 1) % 100_000 == 0:
            print_progress(f"  added {n + 1}, {time.perf_counter() - started:.0f} s")
    add_seconds = time.perf_counter() - started
    new_texts = perturb_texts(texts[:10_000], 1000, 0.5, 13)
    copied = slice(0, 1000)
    queries = [*new_texts, *perturb_texts(texts[copied], 1000, 0.05, 14)]
    near_vectors = vectors[copied] + 0.01 * draw_unit_vectors(1000, DIMENSIONS, 15)
    near_vectors /= np.linalg.norm(near_vectors, axis=1, keepdims=True)
    query_vectors = np.concatenate([draw_unit_vectors(1000, DIMENSIONS, 16), near_vectors])
    # The pool has copies, and the texts of the bench would count as memory of the pool.
    del texts, vectors
    started = time.perf_counter()
    pool.build_indexes()
    build_seconds = time.perf_counter() - started
    print_progress(f"  indexes built after {build_seconds:.0f} s")
    matches, size_before, started = [], len(pool), time.perf_counter()
    for start in range(0, len(queries), 100):
        part = slice(start, start + 100)
        results = pool.check_all(queries[part], list(query_vectors[part]), [()] * 100)
        for n, match in enumerate(results, start):
            if match is None:
                pool.add(f"new_{n}", queries[n], query_vectors[n])
        matches += results
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        json.dumps(
            {
                "rows": source,
                "pool": size,
                "add_ms": round(add_seconds / size * 1e3, 3),
                "settle_s": round(build_seconds, 1),
                "admit_ms_per_candidate": round(seconds / len(queries) * 1e3, 3),
                "admitted": len(pool) - size_before,
                "semantic_duplicates_found_of_1000": sum(match is not None for match in matches[1000:]),
                "million_peak_gb": round(peak, 2),
            }
        )
    )


def _encode(dtype: str, texts: list[str]) -> tuple[np.ndarray, float]:
    """Return the float32 vectors of the texts, of shape (texts, dimensions), and the number of texts per second."""
    from app.providers.encoder import BUNDLED, EncoderSettings, load_encoder

    encoder = load_encoder(EncoderSettings(BUNDLED, dtype=dtype))
    # The first call compiles code and allocates memory.
    encoder.encode(texts[:128])
    started = time.perf_counter()
    return encoder.encode(texts), len(texts) / (time.perf_counter() - started)


def encoding() -> dict:
    """Compare encoding in bfloat16 with float32: texts per second, and the pairs that only one of them finds near."""
    base = load_texts()[0][:1500]
    texts = [*base, *perturb_texts(base, 1500, 0.15, 17)]
    fp32, slow = _encode("float32", texts)
    bf16, fast = _encode("bfloat16", texts)
    upper_triangle = np.triu_indices(len(texts), 1)
    near_fp32, near_bf16 = (fp32 @ fp32.T)[upper_triangle] >= 0.9, (bf16 @ bf16.T)[upper_triangle] >= 0.9
    near_pairs = int((near_fp32 | near_bf16).sum())
    return {
        "texts": len(texts),
        "fp32_texts_per_s": round(slow, 1),
        "bf16_texts_per_s": round(fast, 1),
        "encoding_bf16_times_fp32": round(fast / slow, 2),
        "near_pairs": near_pairs,
        "encoding_decisions_that_differ": round(int((near_fp32 != near_bf16).sum()) / max(1, near_pairs), 5),
        "of_all_pairs": float(f"{(near_fp32 != near_bf16).mean():.2e}"),
    }


PARTS = {"lexical": lexical, "lock": lock, "race": race, "encoding": encoding, "million": million, "rouge": rouge}


def main() -> None:
    """Run the parts and print the result."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    options.add_argument("--race", nargs=3, help=argparse.SUPPRESS)
    options.add_argument("--million", type=int, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.race:
        return _race_one(Path(arguments.race[0]), arguments.race[1], int(arguments.race[2]))
    if arguments.million:
        return _million(arguments.million)
    results: dict = {}
    for name in arguments.only.split(","):
        print_progress(f"{name} …")
        results[name] = PARTS[name]()
        print_progress(f"  {json.dumps(results[name])}")
    print(json.dumps({"bench": "admission", **results, "figures": _figures(results)}))
    return None


def _figures(results: dict) -> dict:
    """Return each goal with the measured value and whether it was reached."""
    figures = {}
    upper_bounds = ("growth", "lock_ms", "race", "million", "differ")
    for name, goal in GOALS.items():
        value = next((result[name] for result in results.values() if name in result), None)
        if value is not None:
            is_upper_bound = any(word in name for word in upper_bounds)
            reached = value <= goal if is_upper_bound else value >= goal
            sign = "<=" if is_upper_bound else ">="
            figures[name] = {"wanted": f"{sign} {goal}", "value": value, "reached": reached}
    if "rouge" in results:
        figures["decisions_that_differ"] = {
            "wanted": "<= 0",
            "value": results["rouge"]["decisions_that_differ"],
            "reached": results["rouge"]["decisions_that_differ"] == 0,
        }
    return figures


if __name__ == "__main__":
    main()
