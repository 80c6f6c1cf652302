"""The generation worker: runs, imports, reviews and judgements. It holds the encoder and the pools for its process."""

import gc
import logging
import threading
from functools import cache

from celery.signals import worker_ready
from threadpoolctl import threadpool_limits

from app import config
from app.calls.caller import endpoint
from app.datasets import import_job
from app.datasets.pools import Pools
from app.jobs import queue, runner
from app.judgements import judging
from app.judgements.kind import KIND as JUDGEMENT
from app.maintenance.kinds import KINDS as REVIEW_KINDS
from app.persistence.db import transaction
from app.providers.encoder import EncoderError, EncoderSettings, load_encoder, resolve_dtype
from app.providers.protocols import open_remote_batches, open_teacher
from app.providers.teacher import Endpoint, Teacher
from app.runs import service as runs
from app.runs.teachers import reply_form
from app.runs.worker import remote_batches, run_slice
from app.synth.types import Encoder
from app.tables.reviews import Review
from workers.process import SHUTDOWN, serve, waiting

# Products with a pool come often and are short: further threads would mostly spin in wait for the next one.
threadpool_limits(1, user_api="blas")
_loading = threading.Lock()

# One line for every call of a teacher would bury all others.
logging.getLogger("httpx2").setLevel(logging.WARNING)


@queue.app.task(name=queue.RUN)
def run(id: str) -> None:
    run_slice.run_slice(id, tools())


@queue.app.task(name=queue.REMOTE)
def work_remote_batches(run_id: str) -> None:
    remote_batches.work(run_id, lambda name: open_remote_batches(endpoint_of(name)))


@queue.app.task(name=queue.IMPORT)
def import_rows(id: str) -> None:
    runner.work(import_job.KIND, id, tools().pools, shutdown=SHUTDOWN)


@queue.app.task(name=queue.REVIEW)
def review(id: str) -> None:
    with transaction() as session:
        row = session.get(Review, id)
    if row is not None:
        runner.work(REVIEW_KINDS[row.kind], id, tools().pools, shutdown=SHUTDOWN)


@queue.app.task(name=queue.JUDGEMENT)
def judge(id: str) -> None:
    runner.work(JUDGEMENT, id, lambda job: judging.judge(job, judging.Tools(teacher)), shutdown=SHUTDOWN)


@queue.app.task(name=queue.ENCODE)
def encode(dataset_id: str) -> None:
    tools().pools.prepare_if_exists(dataset_id)


@worker_ready.connect
def _warm(**_) -> None:
    """Load the default encoder while nobody waits for it: it takes seconds."""
    name = config.settings().encoder
    threading.Thread(target=_warm_up, args=(name,), name="warming", daemon=True).start()


def _warm_up(name: str) -> None:
    tools().pools.load_encoder_by_name(name)
    # What is here now stays: the collector need not look through all of torch again and again.
    gc.collect()
    gc.freeze()


def tools() -> run_slice.Tools:
    with _loading:
        return _tools()


@cache
def _tools() -> run_slice.Tools:
    return run_slice.Tools(Pools(encoder), teacher, SHUTDOWN)


def encoder(name: str, dtype: str | None) -> Encoder:
    """A configured encoder, loaded once in each dtype that datasets were encoded in."""
    return _loaded(name, dtype or resolve_dtype(_wanted(name, None)))


@cache
def _loaded(name: str, dtype: str) -> Encoder:
    return load_encoder(_wanted(name, dtype), config.settings().encoder_threads)


def _wanted(name: str, dtype: str | None) -> EncoderSettings:
    found = config.encoders().get(name)
    if found is None:
        raise EncoderError(f"no encoder {name!r} is configured here; it was when the dataset was made")
    return EncoderSettings(
        name=name,
        backend=found.backend,
        source=found.base_url or found.path or found.hub,
        revision=found.revision,
        dtype=dtype or found.dtype,
        model=found.model or "",
        api_key=found.api_key(),
        dimensions=found.dimensions,
        timeout_seconds=found.timeout_seconds,
    )


def teacher(name: str) -> Teacher:
    return open_teacher(endpoint_of(name))


def endpoint_of(name: str) -> Endpoint:
    with transaction() as session:
        return endpoint(config.teachers()[name], reply_form(session, config.teachers()[name]))


RUNS = {runs.waiting: lambda id: run_slice.run_slice(id, tools(), in_turn=True), remote_batches.waiting: remote_batches}
serve(
    queue.GENERATION,
    RUNS
    | waiting([import_job.KIND], import_rows)
    | waiting(REVIEW_KINDS.values(), review)
    | waiting([JUDGEMENT], judge),
)
