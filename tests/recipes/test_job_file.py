"""The fields of a job, the defaults of its nulls, and the types of failures."""

import errno
import json
from types import SimpleNamespace

import pytest
from transformers import LlamaConfig

from app.training_jobs.jobs import FineTuneJob, JobError, parse_job
from workers.recipes.failures import Failure, classify_error
from workers.recipes.job import read_job
from workers.recipes.training import MetricsCallback, needs_checkpointing

JOB = {
    "output_dir": "/out",
    "files": {"train": "/in/train.jsonl", "test": None},
    "base_model": {"kind": "tiny"},
    "simulated": False,
}


def test_short_job_gets_its_defaults_and_keeps_nulls_until_the_base_is_known():
    job = parse_job(JOB, FineTuneJob)
    assert list(job.files.by_split()) == ["train"] and job.seed == 0
    assert job.hyperparameters.learning_rate is None and job.hyperparameters.max_length == 512
    assert job.hyperparameters.resolve("path").learning_rate == 2e-4
    assert job.hyperparameters.resolve("tiny").learning_rate > 2e-4


def test_given_hyperparameters_are_never_replaced():
    hyperparameters = parse_job(
        {**JOB, "hyperparameters": {"learning_rate": 2e-4, "epochs": 1}}, FineTuneJob
    ).hyperparameters
    assert hyperparameters.resolve("tiny") == hyperparameters


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"method": "full"}, "method"),
        ({"simulated": "yes"}, "simulated"),
        ({"seed": -1}, "seed"),
        ({"output_dir": "out"}, "output_dir"),
        ({"files": {}}, "train"),
        ({"files": {"train": "in.jsonl"}}, "files.train"),
        ({"files": {"train": "/a", "dev": "/b"}}, "dev"),
        ({"base_model": {"kind": "url"}}, "base_model.kind"),
        ({"base_model": {"kind": "hub", "name": "/etc/model"}}, "base_model.name"),
        ({"base_model": {"kind": "tiny", "path": "/a"}}, "path"),
        ({"hyperparameters": []}, "hyperparameters"),
        ({"hyperparameters": {"lr": 1e-3}}, "lr"),
        ({"hyperparameters": {"epochs": True}}, "hyperparameters.epochs"),
        ({"hyperparameters": {"learning_rate": float("nan")}}, "hyperparameters.learning_rate"),
        ({"hyperparameters": {"batch_size": 1.5}}, "hyperparameters.batch_size"),
        ({"hyperparameters": {"warmup_ratio": 1}}, "hyperparameters.warmup_ratio"),
        ({"hyperparameters": {"scheduler": ["cosine"]}}, "hyperparameters.scheduler"),
        ({"hyperparameters": {"packing": 0}}, "hyperparameters.packing"),
    ],
)
def test_bad_job_is_refused_by_the_name_of_its_field(change, field):
    with pytest.raises(JobError, match=field.replace(".", r"\.")):
        parse_job({**JOB, **change}, FineTuneJob)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hyperparameters": {"batch_size": 513}}, "batch_size: Input should be less than or equal to 512; it is 513."),
        (
            {"hyperparameters": {"lr": 1}},
            "Unknown field 'lr' in hyperparameters. The known fields are: epochs, max_steps,",
        ),
        ({"files": {}}, "The field 'train' is missing in files."),
        ({"files": []}, "files: must be an object"),
        ({"output_dir": "out"}, 'output_dir: must be an absolute path; it is "out".'),
        ({"base_model": {"kind": "path"}}, "base_model: a base model of the kind 'path' needs the field 'path'"),
        ({"base_model": {"kind": "tiny", "name": "a/b"}}, "of the kind 'tiny' takes no field 'name'"),
    ],
)
def test_a_fault_says_what_stands_there_and_what_should(change, message):
    with pytest.raises(JobError, match=message):
        parse_job({**JOB, **change}, FineTuneJob)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "is not JSON"),
        ("[]", "the job: must be an object"),
        ("{}", "'output_dir' is missing"),
    ],
)
def test_a_file_that_is_no_job_is_an_invalid_job(tmp_path, content, message):
    path = tmp_path / "job.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(Failure, match=message) as failure:
        read_job(path, FineTuneJob)
    assert failure.value.kind == "invalid_job"


def test_a_job_survives_its_file(tmp_path):
    job = parse_job({**JOB, "hyperparameters": {"epochs": None, "batch_size": 4}}, FineTuneJob)
    (tmp_path / "job.json").write_text(job.model_dump_json(exclude_unset=True))
    assert json.loads((tmp_path / "job.json").read_text())["hyperparameters"] == {"epochs": None, "batch_size": 4}
    assert read_job(tmp_path / "job.json", FineTuneJob) == job


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "not_enough_memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "not_enough_memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "not_enough_memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "storage_full"),
        (OSError(errno.EFBIG, "File too large"), "storage_full"),
        (RuntimeError("can't start new thread"), "not_enough_memory"),
        (Exception("Error while serializing: I/O error: No space left on device (os error 28)"), "storage_full"),
        (Failure("diverged", "…"), "diverged"),
    ],
)
def test_library_errors_get_their_kind(error, kind):
    assert classify_error(error).kind == kind


def test_other_errors_stay_unexpected():
    assert classify_error(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


@pytest.mark.parametrize("bad", [{"loss": float("nan")}, {"grad_norm": float("inf")}])
def test_loss_that_is_no_number_stops_the_run(bad):
    logs = {"loss": 1.0, "grad_norm": 1.0, "learning_rate": 1e-3, "epoch": 0.1, "num_tokens": 5, **bad}
    callback = MetricsCallback(lambda *_, **__: None)
    with pytest.raises(Failure) as error_info:
        callback.on_log(None, SimpleNamespace(global_step=3, max_steps=9), None, logs)
    assert error_info.value.kind == "diverged" and "step 3" in error_info.value.message


@pytest.mark.parametrize(("max_length", "free_gb", "needed"), [(512, 64, False), (512, 8, True), (8192, 64, True)])
def test_checkpointing_is_used_only_where_activations_would_not_fit(max_length, free_gb, needed):
    llama_8b = LlamaConfig(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32)
    hyperparameters = parse_job({**JOB, "hyperparameters": {"max_length": max_length}}, FineTuneJob).hyperparameters
    assert needs_checkpointing(llama_8b, hyperparameters, free_gb * 2**30) is needed
