"""The pools a worker keeps in memory, each brought up to date from Postgres by `seq`."""

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace

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
        self.in_flight = InFlight()

    def forget(self) -> None:
        self.pool, self.last_seq = None, 0


class InFlight:
    """Instructions that this worker is paying for and that are not decided yet, under a ticket each."""

    def __init__(self):
        self._live: dict[str, tuple[str, np.ndarray]] = {}
        self._gone: set[str] = set()
        self._pool: Pool | None = None

    def check(
        self, like: Pool, ticket: str, text: str, vector: np.ndarray, excluding: Collection[str]
    ) -> Rejection | None:
        """A near-duplicate that is on its way, or None: then this one is on its way, too."""
        if self._pool is None or len(self._gone) > max(64, len(self._live)):
            self._rebuild(like)
        found = self._pool.check(text, vector, self._gone | set(excluding))
        if found is not None:
            # What it is near to has no row yet, and may get one that is rejected: the text says what it was.
            return replace(found, nearest_id=None)
        if ticket not in self._live:
            self._live[ticket] = (text, vector)
            self._pool.add(ticket, text, vector)
        return None

    def release(self, tickets: Collection[str]) -> None:
        for ticket in tickets:
            if self._live.pop(ticket, None) is not None:
                self._gone.add(ticket)

    def _rebuild(self, like: Pool) -> None:
        self._pool, self._gone = Pool(like.thresholds, like.mode), set()
        for ticket, (text, vector) in self._live.items():
            self._pool.add(ticket, text, vector)


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

    def screen(
        self, dataset_id: str, ticket: str, text: str, vector: np.ndarray, excluding: Collection[str]
    ) -> Rejection | None:
        """The look before paying: at the pool, and at what is in flight. It may miss the newest rows; admission won't.

        `excluding`: ids of records, and tickets, that the text may be near to.
        """
        with self.locked(dataset_id) as cached:
            if cached.pool is None:
                return None
            found = cached.pool.check(text, vector, excluding)
            return found or cached.in_flight.check(cached.pool, ticket, text, vector, excluding)

    def release(self, dataset_id: str, tickets: Collection[str]) -> None:
        """These are decided, or given up."""
        with self.locked(dataset_id) as cached:
            cached.in_flight.release(tickets)

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
