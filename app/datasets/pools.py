"""Pools cached in memory. A cached pool is refreshed from Postgres with the rows after its last `pool_position`."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy.orm import Session

from app import config
from app.datasets import store
from app.persistence.db import transaction
from app.synth.decide import Precheck, precheck
from app.synth.novelty.pool import Pool, Thresholds, comparison_text
from app.synth.types import Candidate, Encoder, Rejection
from app.tables.datasets import Dataset

log = logging.getLogger(__name__)

ENCODE_AT_ONCE = 256

Encoders = Callable[[str, str | None], Encoder]
"""Loads the encoder of a name in a dtype. None chooses the fastest dtype of the processor."""


class EncoderMismatch(Exception):
    """The vectors of this encoder can't be compared with those of the dataset."""


@dataclass(frozen=True)
class Draft:
    """A text whose answer may be paid for. `excluding`: ids of records, and tickets, that it may resemble."""

    ticket: str
    text: str
    vector: np.ndarray
    excluding: Collection[str] = ()


class CachedPool:
    """One dataset's pool as of `last_pool_position` and `version`. Use it only while holding its lock."""

    def __init__(self):
        self.lock = threading.RLock()
        self.pool: Pool | None = None
        self.last_pool_position = self.version = 0
        # Some of its rows had no vector when it was loaded, so the next use loads the pool again.
        self.partial = False
        self.in_flight = InFlight()

    def forget(self) -> None:
        self.pool, self.last_pool_position = None, 0


class InFlight:
    """In-flight reservations: texts that this worker is paying for and that admission has not decided yet."""

    def __init__(self):
        self._live: dict[str, tuple[str, np.ndarray]] = {}
        self._gone: set[str] = set()
        self._pool: Pool | None = None

    def check(
        self, pool: Pool, ticket: str, text: str, vector: np.ndarray, excluding: Collection[str]
    ) -> Rejection | None:
        """The rejection by a text in flight that is a near-duplicate. After None the text is in flight, too."""
        if self._pool is None or len(self._gone) > max(64, len(self._live)):
            self._rebuild(pool)
        rejection = self._pool.check(text, vector, self._gone | set(excluding))
        if rejection is not None:
            # The match has no row yet, and its row may be rejected, so the rejection names the text only.
            return replace(rejection, nearest_id=None)
        if ticket not in self._live:
            self._live[ticket] = (text, vector)
            self._pool.add(ticket, text, vector)
        return None

    def release(self, tickets: Collection[str]) -> None:
        for ticket in tickets:
            if self._live.pop(ticket, None) is not None:
                self._gone.add(ticket)

    def _rebuild(self, pool: Pool) -> None:
        self._pool, self._gone = Pool(pool.thresholds, pool.mode), set()
        for ticket, (text, vector) in self._live.items():
            self._pool.add(ticket, text, vector)


@dataclass(frozen=True)
class Offer:
    """An open admission: the transaction, the dataset under its lock, and the check before it."""

    session: Session
    dataset: Dataset
    precheck: Precheck


class Pools:
    """The cached pools and the encoders of a process. Above the memory limit the least recently used are evicted.

    Without encoders, as in the API process, rows that are not encoded yet have no vector.
    """

    def __init__(self, encoders: Encoders | None, max_bytes: int | None = None):
        self._encoders = encoders
        self._max_bytes = config.settings().pool_memory_mb * 2**20 if max_bytes is None else max_bytes
        self._guard, self._loading = threading.Lock(), threading.Lock()
        self._cached: OrderedDict[str, CachedPool] = OrderedDict()

    def load_encoder_by_name(self, name: str) -> Encoder:
        """The encoder of this name, without regard to the encoding of any dataset."""
        with self._loading:
            return self._encoders(name, None)

    def encoder(self, dataset: Dataset) -> Encoder:
        """The dataset's encoder. The first process that encodes for a dataset fixes the encoding for all others.

        Raises EncoderMismatch, or what the loading raises.
        """
        with transaction() as session:
            encoding = session.get(Dataset, dataset.id).encoding
        with self._loading:
            encoder = self._encoders(dataset.encoder, encoding["dtype"] if encoding else None)
        if encoding is None:
            with transaction() as session:
                encoding = store.set_encoding_once(session, dataset.id, encoder.identity)
        if encoding != encoder.identity:
            raise EncoderMismatch(describe_mismatch(dataset.id, encoding, encoder.identity))
        return encoder

    @contextmanager
    def locked(self, dataset_id: str) -> Iterator[CachedPool]:
        """The cached pool, for this thread alone. It is dropped when the block raises: its rows may be rolled back."""
        cached = self._get(dataset_id)
        with cached.lock:
            try:
                yield cached
            except BaseException:
                cached.forget()
                raise
        self._evict(dataset_id)

    @contextmanager
    def offering(self, dataset_id: str, candidates: Sequence[Candidate], vectors: Sequence) -> Iterator[Offer]:
        """Precheck all candidates without the dataset's lock, then hold the lock for the block, in one transaction.

        The precheck takes most of the time, and other workers can admit rows meanwhile.
        """
        with self.locked(dataset_id) as cached:
            with transaction() as session:
                dataset = session.get(Dataset, dataset_id)
                pool = self.refresh(session, dataset, cached)
            pool.build_indexes()
            texts = [comparison_text(dataset.scope, candidate) for candidate in candidates]
            prechecked = precheck(pool, candidates, texts, vectors)
            with transaction() as session:
                dataset = store.lock_dataset(session, dataset_id)
                current = self.refresh(session, dataset, cached)
                if current is not pool:
                    # Rows may have been removed since the precheck, which may have matched one of them.
                    prechecked = precheck(current, candidates, texts, vectors)
                yield Offer(session, dataset, prechecked)
            # Admission has added the accepted rows to this pool already, so the next refresh must not add them again.
            cached.last_pool_position = dataset.last_pool_position

    def _get(self, dataset_id: str) -> CachedPool:
        with self._guard:
            cached = self._cached.setdefault(dataset_id, CachedPool())
            self._cached.move_to_end(dataset_id)
            return cached

    def _evict(self, keep_id: str) -> None:
        """Drop the least recently used pools until the others fit in the limit. The pool of `keep_id` stays."""
        with self._guard:
            sizes = {id: cached.pool.nbytes if cached.pool else 0 for id, cached in self._cached.items()}
            total = sum(sizes.values())
            for id, size in sizes.items():
                if total <= self._max_bytes:
                    return
                if id != keep_id and size:
                    log.info("the pool of %s leaves the memory: %d MB", id, size >> 20)
                    del self._cached[id]
                    total -= size

    def screen(self, dataset_id: str, drafts: Sequence[Draft]) -> list[Rejection | None]:
        """Check drafts before they are paid for, against the pool and the texts in flight, in their order.

        The check may miss the newest rows of the pool; admission checks again under the lock.
        """
        with self.locked(dataset_id) as cached:
            if cached.pool is None:
                return [None] * len(drafts)
            pool_rejections = cached.pool.check_all(
                [draft.text for draft in drafts],
                [draft.vector for draft in drafts],
                [draft.excluding for draft in drafts],
            )
            return [
                rejection
                or cached.in_flight.check(cached.pool, draft.ticket, draft.text, draft.vector, draft.excluding)
                for rejection, draft in zip(pool_rejections, drafts, strict=True)
            ]

    def release(self, dataset_id: str, tickets: Collection[str]) -> None:
        """End the reservations of drafts that were decided or given up."""
        with self.locked(dataset_id) as cached:
            cached.in_flight.release(tickets)

    def prepare(self, dataset: Dataset) -> Encoder:
        """Encode the rows without an embedding (seeds that came with the dataset), and load the pool."""
        encoder = self.encoder(dataset)
        while True:
            with transaction() as session:
                missing = list(store.load_unencoded(session, dataset, ENCODE_AT_ONCE))
            if not missing:
                break
            vectors = encoder.encode([text for _, text in missing])
            with transaction() as session:
                ids = (id for id, _ in missing)
                store.save_embeddings(session, {id: v.tobytes() for id, v in zip(ids, vectors, strict=True)})
        with self.locked(dataset.id) as cached:
            with transaction() as session:
                # The caller may have read the dataset long ago, so it is read again.
                pool = self.refresh(session, session.get(Dataset, dataset.id), cached)
            pool.build_indexes()
        return encoder

    def prepare_if_exists(self, dataset_id: str) -> None:
        """Encode new seeds before a run needs them. Does nothing where the dataset was deleted meanwhile."""
        with transaction() as session:
            dataset = session.get(Dataset, dataset_id)
        if dataset is not None:
            self.prepare(dataset)

    def refresh(self, session: Session, dataset: Dataset, cached: CachedPool) -> Pool:
        """Add the newest rows to the cached pool. Under the dataset's lock no row is missing afterwards."""
        if cached.pool is None or cached.version != dataset.pool_version or cached.partial:
            thresholds = Thresholds(dataset.lexical_threshold, dataset.semantic_threshold)
            exact_up_to = config.settings().semantic_exact_rows
            cached.pool = Pool(thresholds, dataset.lexical_mode, exact_up_to)
            cached.last_pool_position, cached.version, cached.partial = 0, dataset.pool_version, False
        if cached.last_pool_position >= dataset.last_pool_position:
            return cached.pool
        encoded, row = {}, None
        for row in store.pool_entries(session, dataset, cached.last_pool_position):
            vector = row.vector
            if vector is None and self._encoders is None:
                cached.partial = True
            elif vector is None:
                vector = self.encoder(dataset).encode([row.text])[0].astype(np.float32)
                encoded[row.id] = vector
            cached.pool.add(row.id, row.text, vector)
        # `dataset` was read before the rows, so all rows up to its `last_pool_position` are among those read.
        cached.last_pool_position = max(
            cached.last_pool_position, dataset.last_pool_position, row.position if row else 0
        )
        store.save_embeddings(session, {id: vector.tobytes() for id, vector in encoded.items()})
        return cached.pool


def describe_mismatch(dataset_id: str, current: dict, claimed: dict) -> str:
    """The message for the user: how the encoders differ, and what to do."""
    differences = "; ".join(
        f"{name} {claimed.get(name)!r} instead of {current[name]!r}"
        for name in current
        if claimed.get(name) != current[name]
    )
    return (
        f"The dataset was encoded by another encoder ({differences}), whose vectors can't be compared. "
        f"POST /v1/datasets/{dataset_id}/reencode encodes all its records anew."
    )
