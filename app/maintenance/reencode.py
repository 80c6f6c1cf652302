"""Encodes a dataset again: new vectors are stored apart, and replace the old ones in one transaction."""

from sqlalchemy.orm import Session

from app.datasets import records
from app.datasets import store as dataset_store
from app.datasets.pools import ROWS_PER_ENCODING, Pools
from app.datasets.rows import DatasetRow
from app.jobs.runner import RunningJob
from app.maintenance import store
from app.persistence.db import transaction
from app.synth.types import Encoder
from app.tables.maintenance import MaintenanceJob


def reencode(job: RunningJob, pools: Pools) -> None:
    """Encode the rows that no earlier attempt of this maintenance job has encoded, then replace all vectors.

    Args:
        job: the claimed re-encoding.
        pools: loads the encoder.
    """
    with transaction() as session:
        maintenance_job = session.get(MaintenanceJob, job.id)
        dataset = dataset_store.load_dataset(session, maintenance_job.dataset_id)
        done = store.find_last_encoded_record(session, maintenance_job.id)
    # By name: the encoding of the dataset is the one to be replaced, and `pools.encoder` would refuse any other.
    encoder = pools.load_encoder_by_name(maintenance_job.settings["encoder"])
    while True:
        job.check()
        done, rows = _encode_batch(job, dataset, encoder, done)
        if not rows:
            break
    with transaction() as session:
        # One transaction: vectors of two encoders can't be compared, so no reader may see some of each.
        dataset = dataset_store.lock_dataset(session, dataset.id)
        store.apply_new_embeddings(session, job.id)
        # The fence locks the job's row. It comes last, so that a cancel need not wait for the update above.
        maintenance_job = job.fence(session)
        store.delete_new_embeddings(session, job.id)
        before = dataset_store.replace_encoder(
            session, dataset.id, maintenance_job.settings["encoder"], encoder.identity
        )
        maintenance_job.result = {"before": before, "after": encoder.identity}
        job.succeed(session, maintenance_job)


def _encode_batch(job: RunningJob, dataset: DatasetRow, encoder: Encoder, after: str) -> tuple[str, int]:
    with transaction() as session:
        rows = records.load_encoded(session, dataset.id, after, ROWS_PER_ENCODING)
        texts = [dataset_store.compared_text(dataset, row) for row in rows]
    if not rows:
        return after, 0
    # Outside of any transaction: the encoding of a batch takes seconds.
    vectors = encoder.encode(texts)
    with job.transaction() as (session, maintenance_job):
        _store_vectors(session, maintenance_job, [row.id for row in rows], vectors)
        maintenance_job.rows = records.count_encoded(session, dataset.id)
        maintenance_job.done_rows += len(rows)
        job.progress(session, maintenance_job, done_rows=maintenance_job.done_rows, rows=maintenance_job.rows)
    return rows[-1].id, len(rows)


def _store_vectors(session: Session, maintenance_job: MaintenanceJob, ids: list[str], vectors) -> None:
    rows = [
        {"maintenance_job_id": maintenance_job.id, "record_id": id, "embedding": vector.tobytes()}
        for id, vector in zip(ids, vectors, strict=True)
    ]
    store.insert_new_embeddings(session, rows)
