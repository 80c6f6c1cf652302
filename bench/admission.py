"""What admission costs: `make bench-admission`. The last line printed is one JSON object.

Every ratio is taken inside this run, on this machine. `--only lexical,lock` runs some of the parts.
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

from bench.rows import changed, pool_texts, real_texts, unit_vectors

WANTED = {
    "lexical_times_rouge_score": 1000,
    "lexical_times_rapidfuzz_at_100k": 12,
    "lexical_growth_10k_to_100k": 6,
    "lock_ms_per_candidate_at_50k": 1.0,
    "race_near_duplicates": 0,
    "million_peak_gb": 8,
    "encoding_bf16_times_fp32": 2,
    "encoding_decisions_that_differ": 0.01,
}
DIMENSIONS = 384


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def rouge() -> dict:
    """3,000 candidates against a growing pool: rouge_score as Self-Instruct uses it, and the index in paper mode."""
    from rouge_score import rouge_scorer

    from app.synth.novelty.lexical import LexicalIndex

    texts, where = real_texts()
    some = texts[:2500]
    texts = [*some, *changed(some, 500, 0.12, 3)]
    random.Random(4).shuffle(texts)

    started, index, ours = time.perf_counter(), LexicalIndex("paper"), []
    for text in texts:
        ours.append(index.nearest(text) is not None)
        if not ours[-1]:
            index.add(text)
            index.reorder()
    ours_seconds = time.perf_counter() - started

    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    pool: list[str] = []
    theirs, started = [], time.perf_counter()
    for n, text in enumerate(texts):
        nearest = max((scorer.score(one, text)["rougeL"].fmeasure for one in pool), default=0.0)
        theirs.append(nearest > 0.7)
        if not theirs[-1]:
            pool.append(text)
        if n % 250 == 0:
            say(f"  rouge_score {n}/{len(texts)}, {time.perf_counter() - started:.0f} s")
    theirs_seconds = time.perf_counter() - started
    return {
        "rows": where,
        "candidates": len(texts),
        "duplicates": sum(ours),
        "decisions_that_differ": sum(a != b for a, b in zip(ours, theirs, strict=True)),
        "rouge_score_s": round(theirs_seconds, 2),
        "ours_s": round(ours_seconds, 4),
        "lexical_times_rouge_score": round(theirs_seconds / ours_seconds, 1),
    }


def lexical() -> dict:
    """One core, fixed pools of 10k and 100k; rapidfuzz over the whole pool on the same queries."""
    from rapidfuzz import process
    from rapidfuzz.distance import Indel

    from app.synth.novelty.lexical import LexicalIndex

    texts, where = pool_texts(100_000)
    queries = [*changed(texts[:10_000], 250, 0.12, 5), *changed(texts[:10_000], 250, 0.55, 6)]
    index, costs = LexicalIndex("unicode"), {}
    for n, text in enumerate(texts, 1):
        index.add(text)
        if n in (10_000, 100_000):
            # As a worker has it after loading the pool.
            index.reorder()
            started = time.perf_counter()
            found = [index.nearest(query) for query in queries]
            costs[n] = (time.perf_counter() - started) / len(queries) * 1e3
            say(f"  {n} rows: {costs[n]:.3f} ms a candidate, {sum(one is not None for one in found)} duplicates")
    few = queries[::10]
    sequences = [index._known(_tokens(query)) for query in few]
    started = time.perf_counter()
    whole = [
        process.extractOne(one, index._sequences, scorer=Indel.normalized_similarity, score_cutoff=0.7)
        for one in sequences
    ]
    rapidfuzz_ms = (time.perf_counter() - started) / len(few) * 1e3
    near = [one is not None and one[1] > 0.7 for one in whole]
    differ = sum(a != (b is not None) for a, b in zip(near, found[::10], strict=True))
    return {
        "rows": where,
        "ms_at_10k": round(costs[10_000], 4),
        "ms_at_100k": round(costs[100_000], 4),
        "candidates_per_s_at_100k": round(1e3 / costs[100_000]),
        "rapidfuzz_whole_pool_ms": round(rapidfuzz_ms, 2),
        "lexical_times_rapidfuzz_at_100k": round(rapidfuzz_ms / costs[100_000], 1),
        "lexical_growth_10k_to_100k": round(costs[100_000] / costs[10_000], 2),
        "decisions_unlike_rapidfuzz": differ,
        "index_mb_at_100k": round(index.nbytes / 2**20),
    }


def _tokens(text: str) -> list[str]:
    from app.synth.text import tokenise

    return tokenise(text)


class Database:
    """PostgreSQL of the embedded stack, with the schema, for the parts that admit rows."""

    def __enter__(self):
        import os

        from app import config
        from app.persistence import db, migrate
        from app.stack import Stack

        self.stack = Stack(Path(tempfile.mkdtemp(prefix="seedbed-bench-")), only=("postgres", "redis"))
        self.stack.__enter__()
        os.environ["DATABASE_URL"], os.environ["REDIS_URL"] = self.stack.database_url, self.stack.redis_url
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
    """Vectors are given with the rows: nothing is encoded here."""
    from app.synth.types import Encoder

    return Encoder(
        lambda texts: unit_vectors(len(texts), DIMENSIONS, 9), {"name": name, "dtype": "float32", "revision": "bench"}
    )


def _offer(pools, dataset, texts: list[str], vectors: np.ndarray):
    from app.datasets.admission import Origin, admit
    from app.synth.types import Candidate

    candidates = [Candidate(text, "", "An answer.") for text in texts]
    with pools.offering(dataset.id, candidates, list(vectors)) as offer:
        return admit(offer.session, offer.dataset, candidates, list(vectors), Origin("generated"), offer.precheck)


def lock() -> dict:
    """The whole of admission at a pool of 50k on PostgreSQL, 100 at once, while another worker admits, too."""
    from app.datasets import store
    from app.datasets.pools import Pools

    size, at_once, rounds = 50_000, 100, 30
    texts, where = pool_texts(size + 10 * at_once)
    vectors = unit_vectors(len(texts), DIMENSIONS, 7)
    with Database():
        dataset = _dataset("lock")
        pools, other = Pools(_encoders), Pools(_encoders)
        pools.encoder(dataset)
        _fill(dataset, texts[:size], vectors[:size])
        started = time.perf_counter()
        pools.prepare(dataset)
        cold = time.perf_counter() - started
        other.prepare(dataset)
        taken, held, whole = [], [], []
        locked = store.lock_dataset

        def timed(session, id):
            row = locked(session, id)
            taken.append(time.perf_counter())
            return row

        store.lock_dataset = timed
        fresh = changed(texts[:size], 2 * rounds * at_once, 0.4, 8)
        more = unit_vectors(len(fresh), DIMENSIONS, 10)
        accepted = 0
        for n in range(rounds):
            one, two = (
                slice(2 * n * at_once, (2 * n + 1) * at_once),
                slice((2 * n + 1) * at_once, (2 * n + 2) * at_once),
            )
            _offer(other, dataset, fresh[one], more[one])
            started = time.perf_counter()
            accepted += _offer(pools, dataset, fresh[two], more[two]).accepted
            held.append(time.perf_counter() - taken[-1])
            whole.append(time.perf_counter() - started)
        store.lock_dataset = locked
    return {
        "rows": where,
        "pool": size,
        "at_once": at_once,
        "accepted_of_offered": round(accepted / (rounds * at_once), 3),
        "cold_start_s": round(cold, 2),
        "lock_ms_per_candidate_at_50k": round(float(np.median(held)) / at_once * 1e3, 4),
        "lock_ms_per_candidate_worst": round(max(held) / at_once * 1e3, 4),
        "whole_ms_per_candidate": round(float(np.median(whole)) / at_once * 1e3, 4),
    }


def _fill(dataset, texts: list[str], vectors: np.ndarray) -> None:
    """Rows straight into the table: how they came in is not what is measured."""
    from app.datasets import store
    from app.persistence.db import transaction
    from app.persistence.ids import new_id
    from app.synth.text import content_hash

    for start in range(0, len(texts), 5000):
        rows = []
        for n in range(start, min(start + 5000, len(texts))):
            id = new_id("rec")
            row = {"id": id, "family": id, "dataset_id": dataset.id, "origin": "imported", "status": "accepted"}
            row |= {"pool_position": n + 1, "instruction": texts[n], "input": "", "output": "x", "language": "en"}
            row |= {"content_hash": content_hash(texts[n], str(n)), "embedding": vectors[n].tobytes(), "lineage": {}}
            rows.append(row)
        with transaction() as session:
            store.insert_records(session, rows)
            locked = store.lock_dataset(session, dataset.id)
            locked.last_pool_position = locked.accepted_count = start + len(rows)
        say(f"  filled {start + len(rows)} rows")


def race() -> dict:
    """4 processes offer the same 2,000 candidates, half of them changed copies of others, in random orders."""
    from sqlalchemy import func, select

    from app.persistence.db import transaction
    from app.synth.novelty.pool import Pool
    from app.tables.datasets import Dataset, Record

    processes, count = 4, 2000
    base = real_texts()[0][: count // 2]
    texts = [*base, *changed(base, count - len(base), 0.12, 11)]
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
            mine = (Record.dataset_id == dataset.id, Record.pool_position.is_not(None))
            kept = session.execute(
                select(Record.instruction, Record.embedding).where(*mine).order_by(Record.pool_position)
            ).all()
            rows = session.scalar(select(func.count()).where(Record.dataset_id == dataset.id))
            decided = row.accepted_count + row.rejected_count
    near, pool = 0, Pool()
    for n, (text, stored) in enumerate(kept):
        vector = np.frombuffer(stored, dtype=np.float32)
        near += pool.check(text, vector) is not None
        pool.add(str(n), text, vector)
    return {
        "processes": processes,
        "offered": offered,
        "accepted": len(kept),
        "rejected": decided - len(kept),
        "books_balance": offered == decided == rows,
        "race_near_duplicates": near,
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
    order = list(range(len(texts)))
    random.Random(seed).shuffle(order)
    with transaction() as session:
        dataset = session.get(Dataset, dataset_id)
    pools, offered = Pools(_encoders), 0
    pools.encoder(dataset)
    for start in range(0, len(order), 50):
        part = order[start : start + 50]
        offered += _offer(pools, dataset, [texts[n] for n in part], vectors[part]).offered
    print(offered)


def million() -> dict:
    """A pool of 1,000,000 in a process of its own: built, and offered 2,000 candidates."""
    command = [sys.executable, "-m", "bench.admission", "--million", "1000000"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])


def _million(size: int) -> None:
    from app.synth.novelty.pool import Pool

    texts, where = pool_texts(size)
    vectors = unit_vectors(size, DIMENSIONS, 12)
    pool, started = Pool(), time.perf_counter()
    for n in range(size):
        pool.add(f"rec_{n:032x}", texts[n], vectors[n])
        if (n + 1) % 100_000 == 0:
            say(f"  added {n + 1}, {time.perf_counter() - started:.0f} s")
    added = time.perf_counter() - started
    fresh = changed(texts[:10_000], 1000, 0.5, 13)
    given = slice(0, 1000)
    asked = [*fresh, *changed(texts[given], 1000, 0.05, 14)]
    near = vectors[given] + 0.01 * unit_vectors(1000, DIMENSIONS, 15)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    asked_vectors = np.concatenate([unit_vectors(1000, DIMENSIONS, 16), near])
    del texts, vectors
    started = time.perf_counter()
    pool.build_indexes()
    settled = time.perf_counter() - started
    say(f"  in order after {settled:.0f} s")
    found, seen, started = [], len(pool), time.perf_counter()
    for start in range(0, len(asked), 100):
        part = slice(start, start + 100)
        answers = pool.check_all(asked[part], list(asked_vectors[part]), [()] * 100)
        for n, answer in enumerate(answers, start):
            if answer is None:
                pool.add(f"new_{n}", asked[n], asked_vectors[n])
        found += answers
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        json.dumps(
            {
                "rows": where,
                "pool": size,
                "add_ms": round(added / size * 1e3, 3),
                "settle_s": round(settled, 1),
                "admit_ms_per_candidate": round(seconds / len(asked) * 1e3, 3),
                "admitted": len(pool) - seen,
                "semantic_duplicates_found_of_1000": sum(one is not None for one in found[1000:]),
                "million_peak_gb": round(peak, 2),
            }
        )
    )


def _encode(dtype: str, texts: list[str]) -> tuple[np.ndarray, float]:
    """Vectors, and texts per second."""
    from app.providers.encoder import BUNDLED, EncoderSettings, load_encoder

    made = load_encoder(EncoderSettings(BUNDLED, dtype=dtype))
    made.encode(texts[:128])
    started = time.perf_counter()
    return made.encode(texts), len(texts) / (time.perf_counter() - started)


def encoding() -> dict:
    """bfloat16 against float32: texts a second, and the pairs of which one says that they are near, the other not."""
    base = real_texts()[0][:1500]
    texts = [*base, *changed(base, 1500, 0.15, 17)]
    fp32, slow = _encode("float32", texts)
    bf16, fast = _encode("bfloat16", texts)
    above = np.triu_indices(len(texts), 1)
    a, b = (fp32 @ fp32.T)[above] >= 0.9, (bf16 @ bf16.T)[above] >= 0.9
    either = int((a | b).sum())
    return {
        "texts": len(texts),
        "fp32_texts_per_s": round(slow, 1),
        "bf16_texts_per_s": round(fast, 1),
        "encoding_bf16_times_fp32": round(fast / slow, 2),
        "near_pairs": either,
        "encoding_decisions_that_differ": round(int((a != b).sum()) / max(1, either), 5),
        "of_all_pairs": float(f"{(a != b).mean():.2e}"),
    }


PARTS = {"lexical": lexical, "lock": lock, "race": race, "encoding": encoding, "million": million, "rouge": rouge}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    options.add_argument("--race", nargs=3, help=argparse.SUPPRESS)
    options.add_argument("--million", type=int, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.race:
        return _race_one(Path(given.race[0]), given.race[1], int(given.race[2]))
    if given.million:
        return _million(given.million)
    found: dict = {}
    for name in given.only.split(","):
        say(f"{name} …")
        found[name] = PARTS[name]()
        say(f"  {json.dumps(found[name])}")
    print(json.dumps({"bench": "admission", **found, "figures": _figures(found)}))
    return None


def _figures(found: dict) -> dict:
    """Each figure that was wanted, as measured, and whether it was reached."""
    figures = {}
    at_most = ("growth", "lock_ms", "race", "million", "differ")
    for name, wanted in WANTED.items():
        value = next((part[name] for part in found.values() if name in part), None)
        if value is not None:
            less = any(word in name for word in at_most)
            reached = value <= wanted if less else value >= wanted
            figures[name] = {"wanted": f"{'<=' if less else '>='} {wanted}", "value": value, "reached": reached}
    if "rouge" in found:
        figures["decisions_that_differ"] = {
            "wanted": "<= 0",
            "value": found["rouge"]["decisions_that_differ"],
            "reached": found["rouge"]["decisions_that_differ"] == 0,
        }
    return figures


if __name__ == "__main__":
    main()
