"""The generation worker: it works on runs, imports, maintenance jobs and judgements.

All jobs of the process share the encoders and the pools, which take most of its memory.
"""

import asyncio
import gc
import logging
import threading
from functools import cache

from celery.signals import worker_ready
from threadpoolctl import threadpool_limits

from app import config
from app.calls.teacher_endpoints import endpoint
from app.datasets import import_job
from app.datasets.pools import Pools
from app.jobs import queue, runner
from app.judgements import judging
from app.judgements.kind import KIND as JUDGEMENT
from app.maintenance import store as maintenance_store
from app.maintenance.kinds import KINDS as MAINTENANCE_KINDS
from app.persistence.db import transaction
from app.providers.checking import check
from app.providers.encoder import EncoderError, EncoderSettings, load_encoder, resolve_dtype
from app.providers.profile import TeacherProfile
from app.providers.protocols import open_remote_batches, open_teacher
from app.providers.teacher import Endpoint, Teacher
from app.runs import service as runs
from app.runs import teacher_checks
from app.runs.teachers import UNCHECKED, load_profile, reply_form
from app.runs.worker import remote_batches, run_slice
from app.synth.types import Encoder
from workers.process import SHUTDOWN, map_queries_to_work, serve

# Matrix products with a pool are short and frequent. More threads would mostly wait actively for the next product.
threadpool_limits(1, user_api="blas")
_tools_lock = threading.Lock()

# This library logs one line for every teacher call.
logging.getLogger("httpx2").setLevel(logging.WARNING)


@queue.app.task(name=queue.RUN)
def run(id: str) -> None:
    """Work on a run for one time slice."""
    run_slice.run_slice(id, tools())


@queue.app.task(name=queue.REMOTE)
def work_remote_batches(run_id: str) -> None:
    """Send, poll and read the remote batches of a run in batch mode."""
    remote_batches.work(run_id, lambda name: open_remote_batches(endpoint_of(name)))


@queue.app.task(name=queue.IMPORT)
def import_rows(id: str) -> None:
    """Import the rows of one upload."""
    runner.work(import_job.KIND, id, tools().pools, shutdown=SHUTDOWN)


@queue.app.task(name=queue.MAINTENANCE)
def maintenance(id: str) -> None:
    """Work on one maintenance job: a refilter, a decontamination or a re-encoding."""
    with transaction() as session:
        kind = maintenance_store.load_kind(session, id)
    # The dataset may have been deleted since the wake-up was sent.
    if kind is not None:
        runner.work(MAINTENANCE_KINDS[kind], id, tools().pools, shutdown=SHUTDOWN)


@queue.app.task(name=queue.JUDGEMENT)
def judge(id: str) -> None:
    """Work on one judgement."""
    runner.work(JUDGEMENT, id, lambda job: judging.judge(job, judging.Tools(teacher)), shutdown=SHUTDOWN)


@queue.app.task(name=queue.TEACHER_CHECK)
def check_teacher(id: str) -> None:
    """Work on one check of a teacher."""
    runner.work(teacher_checks.KIND, id, learn_profile, shutdown=SHUTDOWN)


def learn_profile(name: str) -> dict:
    """Make the calls of a check, and return the profile of the teacher as JSON values."""
    unchecked = endpoint(config.teachers()[name], UNCHECKED)
    return asyncio.run(check(unchecked)).profile.to_json()


@queue.app.task(name=queue.ENCODE)
def encode(dataset_id: str) -> None:
    """Compute the missing vectors of a dataset, and load its pool.

    Sent when a dataset is created, so that its first run does not wait for the vectors of the seeds. A lost wake-up is
    not sent again: the run then computes them itself.
    """
    tools().pools.prepare_if_exists(dataset_id)


@worker_ready.connect
def _start_loading_encoder(**_) -> None:
    """Load the default encoder at the start of the worker. It takes seconds, and the first job would wait for it."""
    name = config.settings().encoder
    threading.Thread(target=_load_default_encoder, args=(name,), name="encoder", daemon=True).start()


def _load_default_encoder(name: str) -> None:
    tools().pools.load_encoder_by_name(name)
    # These objects stay until the process ends. `freeze` excludes them from every later garbage collection.
    gc.collect()
    gc.freeze()


def tools() -> run_slice.Tools:
    """Return the encoders, pools and teachers of this process, which are created at the first call."""
    # functools.cache alone would let two threads create them twice.
    with _tools_lock:
        return _create_tools()


@cache
def _create_tools() -> run_slice.Tools:
    return run_slice.Tools(Pools(load_configured_encoder), teacher, SHUTDOWN)


def load_configured_encoder(name: str, dtype: str | None) -> Encoder:
    """Return an encoder of the configuration, loaded once for each dtype.

    Args:
        name: the name of the encoder in the configuration.
        dtype: the dtype of the dataset's vectors; None for a dataset without vectors, which takes the configured dtype.

    Raises:
        EncoderError: This worker's configuration has no such encoder.
    """
    return _load_once(name, dtype or resolve_dtype(_read_settings(name, None)))


@cache
def _load_once(name: str, dtype: str) -> Encoder:
    return load_encoder(_read_settings(name, dtype), config.settings().encoder_threads)


def _read_settings(name: str, dtype: str | None) -> EncoderSettings:
    encoder_config = config.encoders().get(name)
    if encoder_config is None:
        raise EncoderError(
            f"this worker's configuration has no encoder {name!r}, which the dataset needs; configure it again"
        )
    return EncoderSettings(
        name=name,
        backend=encoder_config.backend,
        source=encoder_config.base_url or encoder_config.path or encoder_config.hub,
        revision=encoder_config.revision,
        dtype=dtype or encoder_config.dtype,
        model=encoder_config.model or "",
        api_key=encoder_config.api_key(),
        dimensions=encoder_config.dimensions,
        timeout_seconds=encoder_config.timeout_seconds,
    )


def teacher(name: str) -> Teacher:
    """Return an open connection to a configured teacher."""
    return open_teacher(endpoint_of(name))


def endpoint_of(name: str) -> Endpoint:
    """Return the address, key and limits of a configured teacher, and how its requests are written, after its check."""
    configured = config.teachers()[name]
    with transaction() as session:
        profile = TeacherProfile.from_json(load_profile(session, configured))
        return endpoint(configured, reply_form(session, configured), profile)


def run_in_turn(id: str) -> None:
    """Work on a run for a slice of normal length: the poller works on one job after another, and others may wait."""
    run_slice.run_slice(id, tools(), in_turn=True)


# What the poller does while Redis is unavailable. Celery's tasks are functions, too, so it calls the same ones.
WORK_BY_QUERY = (
    {runs.finalize_and_list_waiting: run_in_turn, remote_batches.list_waiting: work_remote_batches}
    | map_queries_to_work([import_job.KIND], import_rows)
    | map_queries_to_work(MAINTENANCE_KINDS.values(), maintenance)
    | map_queries_to_work([JUDGEMENT], judge)
    | map_queries_to_work([teacher_checks.KIND], check_teacher)
)
serve(queue.GENERATION, WORK_BY_QUERY)
