"""The pools that a process caches in memory: the texts and vectors with which new rows are compared.

Postgres has the rows, and the cache follows it: before an admission a pool is refreshed with the rows after its last
`pool_position`. When a row is removed, `pool_version` is increased, and each process loads the pool again as a whole.

Two steps of a batch use a pool. The prefilter compares an instruction before its answer is paid for, and may miss the
newest rows. Admission decides: it prechecks all candidates, locks the dataset, and compares them with the rows that
other workers have added since (docs/adr/0008, docs/adr/0010).
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from app import config
from app.datasets import store
from app.datasets.reservations import PrefilterRequest, Reservations
from app.persistence.db import transaction
from app.synth.decide import Precheck, precheck
from app.synth.novelty.pool import Pool, Thresholds, comparison_text
from app.synth.types import Candidate, Encoder, Rejection
from app.tables.datasets import Dataset

log = logging.getLogger(__name__)

# The number of vectors that are computed and then written in one transaction. A killed worker loses no more than these.
ROWS_PER_ENCODING = 256

Encoders = Callable[[str, str | None], Encoder]
"""Loads the encoder with this name in this dtype; for None in the fastest dtype of the processor."""


class EncoderMismatch(Exception):
    """The vectors of this encoder can't be compared with those of the dataset."""


class CachedPool:
    """One dataset's pool as of `last_pool_position` and `version`. Use it only while holding its lock."""

    def __init__(self):
        self.lock = threading.RLock()
        self.pool: Pool | None = None
        self.last_pool_position = self.version = 0
        # Whether some rows had no vector when the pool was loaded. The next use then loads it again.
        self.lacks_vectors = False
        self.reservations = Reservations()

    def clear(self) -> None:
        """Drop the pool: the next use loads it from Postgres."""
        self.pool, self.last_pool_position = None, 0


@dataclass(frozen=True)
class Offer:
    """What `admit` needs: the open transaction, the dataset locked in it, and the precheck from before the lock."""

    session: Session
    dataset: Dataset
    precheck: Precheck


class Pools:
    """The cached pools and the encoders of a process.

    Args:
        encoders: loads encoders by name. None is for the API process, which has no encoder: rows that no worker has
            encoded yet then have no vector.
        max_bytes: the memory for all pools together; above it the least recently used pools are evicted. None takes
            the configured limit.
    """

    def __init__(self, encoders: Encoders | None, max_bytes: int | None = None):
        self._encoders = encoders
        self._max_bytes = config.settings().pool_memory_mb * 2**20 if max_bytes is None else max_bytes
        self._cache_lock = threading.Lock()
        # One load after another: two threads would load the same encoder twice, which takes seconds and its memory.
        self._loading_lock = threading.Lock()
        self._cached: OrderedDict[str, CachedPool] = OrderedDict()

    def load_encoder_by_name(self, name: str) -> Encoder:
        """Return the encoder with this name, without regard to the encoding of any dataset."""
        with self._loading_lock:
            return self._encoders(name, None)

    def load_encoder(self, dataset: Dataset) -> Encoder:
        """Return the dataset's encoder. The first process that encodes for a dataset sets its encoding for all.

        Raises:
            EncoderMismatch: This process can't compute vectors that are comparable with those of the dataset.
        """
        with transaction() as session:
            encoding = session.get(Dataset, dataset.id).encoding
        with self._loading_lock:
            encoder = self._encoders(dataset.encoder, encoding["dtype"] if encoding else None)
        if encoding is None:
            with transaction() as session:
                encoding = store.set_encoding_once(session, dataset.id, encoder.identity)
        if encoding != encoder.identity:
            raise EncoderMismatch(describe_mismatch(dataset.id, encoding, encoder.identity))
        return encoder

    @contextmanager
    def lock_pool(self, dataset_id: str) -> Iterator[CachedPool]:
        """Give the block the cached pool, for this thread alone. The dataset in Postgres is not locked.

        If the block raises, the pool is dropped: it may have rows of a transaction that was rolled back.
        """
        cached = self._get(dataset_id)
        with cached.lock:
            try:
                yield cached
            except BaseException:
                cached.clear()
                raise
        self._evict(dataset_id)

    @contextmanager
    def precheck_and_lock(self, dataset_id: str, candidates: Sequence[Candidate], vectors: Sequence) -> Iterator[Offer]:
        """Precheck all candidates without the dataset's lock, then hold the lock for the block, in one transaction.

        The precheck takes most of the time, and other workers can admit rows meanwhile (docs/adr/0010).

        Args:
            dataset_id: the dataset, which must exist.
            candidates: the rows to offer.
            vectors: a unit vector for each candidate, or None.
        """
        with self.lock_pool(dataset_id) as cached:
            with transaction() as session:
                dataset = session.get(Dataset, dataset_id)
                pool = self.refresh(session, dataset, cached)
            pool.build_indexes()
            texts = [comparison_text(dataset.scope, candidate) for candidate in candidates]
            prechecked = precheck(pool, candidates, texts, vectors)
            # From here on no other worker can admit rows to the dataset, until the transaction of the block ends.
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
        with self._cache_lock:
            cached = self._cached.setdefault(dataset_id, CachedPool())
            self._cached.move_to_end(dataset_id)
            return cached

    def _evict(self, current_id: str) -> None:
        """Drop the least recently used pools until the others fit in the limit. The pool of `current_id` stays."""
        with self._cache_lock:
            sizes = {id: cached.pool.nbytes if cached.pool else 0 for id, cached in self._cached.items()}
            total = sum(sizes.values())
            for id, size in sizes.items():
                if total <= self._max_bytes:
                    return
                if id != current_id and size:
                    log.info("the pool of %s (%d MB) was evicted from the memory", id, size >> 20)
                    del self._cached[id]
                    total -= size

    def prefilter(self, dataset_id: str, requests: Sequence[PrefilterRequest]) -> list[Rejection | None]:
        """Compare texts with the pool and with reserved texts, in their order, and reserve those that pass.

        The comparison may miss the newest rows of the pool: admission compares again under the lock (docs/adr/0008).

        Returns:
            The rejection of each text, None for a text that is reserved now.
        """
        with self.lock_pool(dataset_id) as cached:
            if cached.pool is None:
                # A failed transaction has dropped the pool. Without one nothing is rejected before admission.
                return [None] * len(requests)
            rejections = cached.pool.check_all(
                [request.text for request in requests],
                [request.vector for request in requests],
                [request.excluding for request in requests],
            )
            return [
                rejection or cached.reservations.check_and_reserve(cached.pool, request)
                for rejection, request in zip(rejections, requests, strict=True)
            ]

    def release(self, dataset_id: str, reservations: Collection[str]) -> None:
        """End the reservations of a batch after its admission, or after an error that ended it."""
        with self.lock_pool(dataset_id) as cached:
            cached.reservations.release(reservations)

    def prepare(self, dataset: Dataset) -> Encoder:
        """Encode the rows without an embedding, load the pool, and return the dataset's encoder.

        Rows without an embedding are seeds that came with the dataset: the API process that stored them has no
        encoder.

        Raises:
            EncoderMismatch: This process can't compute vectors that are comparable with those of the dataset.
        """
        encoder = self.load_encoder(dataset)
        while True:
            with transaction() as session:
                missing = list(store.load_unencoded(session, dataset, ROWS_PER_ENCODING))
            if not missing:
                break
            # Outside of any transaction, which would hold a connection for the seconds that the encoder needs.
            vectors = encoder.encode([text for _, text in missing])
            with transaction() as session:
                ids = (id for id, _ in missing)
                store.save_embeddings(session, {id: v.tobytes() for id, v in zip(ids, vectors, strict=True)})
        with self.lock_pool(dataset.id) as cached:
            with transaction() as session:
                # The caller may have read the dataset long ago, so it is read again.
                pool = self.refresh(session, session.get(Dataset, dataset.id), cached)
            pool.build_indexes()
        return encoder

    def prepare_if_exists(self, dataset_id: str) -> None:
        """Encode new seeds before a run needs them. A dataset that was deleted meanwhile is no error."""
        with transaction() as session:
            dataset = session.get(Dataset, dataset_id)
        if dataset is not None:
            self.prepare(dataset)

    def refresh(self, session: Session, dataset: Dataset, cached: CachedPool) -> Pool:
        """Add the rows to the cached pool that it lacks, and return it. The caller holds the pool's lock.

        Args:
            session: the transaction that reads the rows.
            dataset: the dataset as this transaction sees it. If the caller holds its lock, no row is missing
                afterwards; else the newest rows may be.
            cached: the cached pool.
        """
        if cached.pool is None or cached.version != dataset.pool_version or cached.lacks_vectors:
            thresholds = Thresholds(dataset.lexical_threshold, dataset.semantic_threshold)
            exact_up_to = config.settings().semantic_exact_rows
            cached.pool = Pool(thresholds, dataset.lexical_mode, exact_up_to)
            cached.last_pool_position, cached.version, cached.lacks_vectors = 0, dataset.pool_version, False
        if cached.last_pool_position >= dataset.last_pool_position:
            return cached.pool
        encoded, row = {}, None
        for row in store.stream_pool_entries(session, dataset, cached.last_pool_position):
            vector = row.vector
            if vector is None and self._encoders is None:
                cached.lacks_vectors = True
            elif vector is None:
                # A seed that was stored after this process prepared the dataset.
                vector = self.load_encoder(dataset).encode([row.text])[0].astype(np.float32)
                encoded[row.id] = vector
            cached.pool.add(row.id, row.text, vector)
        # `dataset` was read before the rows, so all rows up to its `last_pool_position` are among those read.
        cached.last_pool_position = max(
            cached.last_pool_position, dataset.last_pool_position, row.position if row else 0
        )
        store.save_embeddings(session, {id: vector.tobytes() for id, vector in encoded.items()})
        return cached.pool


def describe_mismatch(dataset_id: str, current: dict, other: dict) -> str:
    """Return a message for the user: how the encoders differ, and what to do.

    Args:
        dataset_id: the dataset.
        current: the encoding of the dataset.
        other: the encoding of the other encoder, with the same names.
    """
    differences = "; ".join(
        f"{name} {other.get(name)!r} instead of {current[name]!r}"
        for name in current
        if other.get(name) != current[name]
    )
    return (
        f"The dataset was encoded by another encoder ({differences}), whose vectors can't be compared. "
        f"POST /v1/datasets/{dataset_id}/reencode encodes all its records anew."
    )
