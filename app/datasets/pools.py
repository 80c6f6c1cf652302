"""The pools a worker keeps in memory, each brought up to date from Postgres by `seq`."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from sqlalchemy.orm import Session

from app.datasets import store
from app.db import transaction
from app.synth.pool import Pool, Thresholds
from app.synth.types import Encode, Rejection
from app.tables.datasets import Dataset

ENCODE_AT_ONCE = 256


class CachedPool:
    """One dataset's pool as of `last_seq`. Use it only while holding its lock."""

    def __init__(self):
        self.lock = threading.RLock()
        self.pool: Pool | None = None
        self.last_seq = 0

    def forget(self) -> None:
        self.pool, self.last_seq = None, 0


class Pools:
    """A worker's pools with the encoder. The least recently used leave when there are more than `most`."""

    def __init__(self, encode: Encode, most: int = 16):
        self.encode = encode
        self._most = most
        self._guard = threading.Lock()
        self._cached: OrderedDict[str, CachedPool] = OrderedDict()

    @contextmanager
    def locked(self, dataset_id: str) -> Iterator[CachedPool]:
        """The pool, for this thread alone. When the block raises it is dropped: its rows may be rolled back."""
        cached = self._get(dataset_id)
        with cached.lock:
            try:
                yield cached
            except BaseException:
                cached.forget()
                raise

    def _get(self, dataset_id: str) -> CachedPool:
        with self._guard:
            cached = self._cached.setdefault(dataset_id, CachedPool())
            self._cached.move_to_end(dataset_id)
            while len(self._cached) > self._most:
                self._cached.popitem(last=False)
            return cached

    def screen(self, dataset_id: str, text: str) -> Rejection | None:
        """The lexical look before paying. It may miss the newest rows; admission looks again."""
        with self.locked(dataset_id) as cached:
            return cached.pool.screen(text) if cached.pool else None

    def prepare(self, dataset: Dataset) -> None:
        """Encode what has no embedding yet (seeds given with the dataset), and load the pool."""
        while True:
            with transaction() as session:
                missing = store.not_encoded(session, dataset.id, ENCODE_AT_ONCE)
            if not missing:
                break
            vectors = self.encode([text for _, text in missing])
            with transaction() as session:
                ids = (id for id, _ in missing)
                store.save_embeddings(session, {id: v.tobytes() for id, v in zip(ids, vectors, strict=True)})
        with self.locked(dataset.id) as cached, transaction() as session:
            self.refresh(session, dataset, cached)

    def refresh(self, session: Session, dataset: Dataset, cached: CachedPool) -> Pool:
        """Bring the pool up to date. Under the dataset's lock it is then exact."""
        if cached.pool is None:
            thresholds = Thresholds(dataset.lexical_threshold, dataset.semantic_threshold)
            cached.pool, cached.last_seq = Pool(thresholds, dataset.lexical_mode), 0
        late = {}
        for row in store.pool_heads(session, dataset.id, cached.last_seq):
            if row.embedding is None:
                late[row.id] = self.encode([row.instruction])[0].astype(np.float32)
                vector = late[row.id]
            else:
                vector = np.frombuffer(row.embedding, dtype=np.float32)
            cached.pool.add(row.id, row.instruction, vector)
            cached.last_seq = row.seq
        store.save_embeddings(session, {id: vector.tobytes() for id, vector in late.items()})
        return cached.pool
