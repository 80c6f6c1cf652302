"""Several worker processes offer the same rows to one dataset at once."""

import subprocess
import sys
import time

import numpy as np
from sqlalchemy import select

from app.access import service as access
from app.access.service import Caller
from app.datasets import service
from app.datasets.schemas import DatasetCreate
from app.persistence.db import transaction
from app.synth.novelty.pool import Pool
from app.tables.datasets import Dataset, Record
from tests.fakes import unlike

PROCESSES, ROWS, AT_ONCE = 4, 240, 20
SCRIPT = """
import json, random, sys
from app.datasets.admission import Origin, admit
from app.datasets.pools import Pools
from app.persistence.db import transaction
from app.synth.types import Candidate
from app.tables.datasets import Dataset
from tests.fakes import encoders
dataset_id, texts, seed, at_once = json.load(sys.stdin)
with transaction() as session:
    dataset = session.get(Dataset, dataset_id)
random.Random(seed).shuffle(texts)
pools, offered = Pools(encoders()), 0
encode = pools.load_encoder(dataset).encode
print("ready", flush=True)
for start in range(0, len(texts), at_once):
    candidates = [Candidate(text, "", "x") for text in texts[start : start + at_once]]
    vectors = list(encode([c.instruction for c in candidates]))
    with pools.precheck_and_lock(dataset_id, candidates, vectors) as offer:
        offered += admit(offer.session, offer.dataset, candidates, vectors, Origin("generated"), offer.precheck).offered
print(offered)
"""


def test_processes_that_offer_the_same_rows_admit_no_near_duplicate(database):
    """Half of the texts are changed a little, so that which of two comes first decides which is kept."""
    import json

    base = [f"Explain {unlike(n)} in a few words" for n in range(ROWS // 2)]
    texts = base + [text.replace("a few words", "some short words") for text in base]
    with transaction() as session:
        caller = Caller(access.ensure_project(session, "race").id, "key")
        dataset = service.create(session, caller, DatasetCreate(name=f"race {time.time_ns()}"))
    workers = [
        subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    for seed, worker in enumerate(workers):
        worker.stdin.write(json.dumps([dataset.id, texts, seed, AT_ONCE]))
        worker.stdin.close()
    said = [worker.stdout.read().split() for worker in workers]
    assert [worker.wait(60) for worker in workers] == [0] * PROCESSES
    assert said == [["ready", str(ROWS)]] * PROCESSES
    with transaction() as session:
        row = session.get(Dataset, dataset.id)
        kept = list(
            session.scalars(select(Record).where(Record.dataset_id == dataset.id, Record.pool_position.is_not(None)))
        )
        vectors = {entry.id: entry.embedding for entry in kept}
        assert row.accepted_count + row.rejected_count == PROCESSES * ROWS
    assert row.accepted_count == len(kept) == ROWS // 2
    pool = Pool()
    for item in sorted(kept, key=lambda item: item.pool_position):
        vector = np.frombuffer(vectors[item.id], dtype=np.float32)
        assert pool.check(item.instruction, vector) is None, item.instruction
        pool.add(item.id, item.instruction, vector)
