"""Encodes a dataset again: new vectors are stored apart, and replace the old ones in one transaction."""

from sqlalchemy.orm import Session

from app.datasets import store as dataset_store
from app.datasets.pools import ENCODE_AT_ONCE, Pools
from app.jobs.runner import RunningJob
from app.maintenance import store
from app.persistence.db import transaction
from app.synth.types import Encoder
from app.tables.datasets import Dataset
from app.tables.reviews import Review


def reencode(job: RunningJob, pools: Pools) -> None:
    """Encode the rows that no earlier attempt of this review has encoded, then replace all vectors."""
    with transaction() as session:
        review = session.get(Review, job.id)
        dataset = session.get(Dataset, review.dataset_id)
        done = store.last_new_embedding(session, review.id)
    encoder = pools.load_encoder_by_name(review.settings["encoder"])
    while True:
        job.check()
        done, rows = _encode_batch(job, dataset, encoder, done)
        if not rows:
            break
    with transaction() as session:
        dataset = dataset_store.lock_dataset(session, dataset.id)
        store.apply_new_embeddings(session, job.id)
        # The fence locks the row of the review. It comes last, so that a cancel need not wait for the update above.
        review = job.fence(session)
        store.delete_new_embeddings(session, job.id)
        old_encoding = dataset.encoding
        dataset.encoder, dataset.encoding = review.settings["encoder"], encoder.identity
        dataset.pool_version += 1
        review.result = {"before": old_encoding, "after": encoder.identity}
        job.succeed(session, review)


def _encode_batch(job: RunningJob, dataset: Dataset, encoder: Encoder, after: str) -> tuple[str, int]:
    with transaction() as session:
        rows = store.encoded_rows(session, dataset.id, after, ENCODE_AT_ONCE)
        texts = [dataset_store.compared_text(dataset, row) for row in rows]
    if not rows:
        return after, 0
    vectors = encoder.encode(texts)
    with job.transaction() as (session, review):
        _store_vectors(session, review, [row.id for row in rows], vectors)
        review.rows = store.count_encoded(session, dataset.id)
        review.done_rows += len(rows)
        job.progress(session, review, done_rows=review.done_rows, rows=review.rows)
    return rows[-1].id, len(rows)


def _store_vectors(session: Session, review: Review, ids: list[str], vectors) -> None:
    rows = [
        {"review_id": review.id, "record_id": id, "embedding": vector.tobytes()}
        for id, vector in zip(ids, vectors, strict=True)
    ]
    store.insert_new_embeddings(session, rows)
