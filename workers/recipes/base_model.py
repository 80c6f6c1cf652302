"""The model to start from, and the device and precision it runs in."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import is_flash_attn_2_available

from app.training_jobs.jobs import BaseModelSource
from workers.recipes.failures import Failure, classify_error


@dataclass(frozen=True)
class LoadedBase:
    """A base model in memory, with its tokenizer.

    `name` is the name to publish, `parameter_count` excludes any adapter, and `note` says where the model comes from.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    parameter_count: int
    revision: str | None
    made_on_the_spot: bool
    note: str


def load_base_model(spec: BaseModelSource, packing: bool) -> LoadedBase:
    """Load the model and the tokenizer from a folder or the hub.

    It never runs code that comes with a model, and never unpickles weights.

    Args:
        spec: The base model of the job.
        packing: Whether several rows share a block in training.

    Raises:
        Failure: base_model_not_found, or the failure of `classify_error`, such as not_enough_memory.
    """
    if spec.path and not (spec.path / "config.json").is_file():
        raise Failure(
            "base_model_not_found",
            f"There is no model in the configured folder {spec.shown!r} (no config.json). Correct its path.",
        )
    try:
        model, tokenizer = _load_pretrained(spec, packing)
    except (OSError, ValueError) as error:
        raise classify_error(error) or Failure(
            "base_model_not_found",
            f"The base model {spec.shown!r} cannot be loaded: {_first_line(error, spec.path)}",
        ) from error
    if tokenizer.eos_token is None:
        raise Failure("base_model_not_found", f"The tokenizer of {spec.shown!r} has no end token.")
    if tokenizer.pad_token is None:
        # Padding is masked in attention and loss, so the end token can stand in without being unlearned.
        tokenizer.pad_token = tokenizer.eos_token
    note = "read from a folder on this machine" if spec.path else f"revision {spec.revision or 'main'} of the hub"
    return LoadedBase(
        model.to(choose_device()), tokenizer, spec.shown, model.num_parameters(), spec.revision, False, note
    )


def _load_pretrained(spec: BaseModelSource, packing: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    source = str(spec.path or spec.name)
    options = {"revision": spec.revision or "main", "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(source, **options)
    model = AutoModelForCausalLM.from_pretrained(
        source,
        **options,
        use_safetensors=True,
        dtype=choose_precision(),
        attn_implementation=choose_attention(packing),
    )
    return model, tokenizer


def choose_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_precision() -> torch.dtype:
    """Return bfloat16 if the hardware multiplies in it, else float32."""
    # Emulated bfloat16 is slower than float32.
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    processor = torch.cpu.get_capabilities()
    fast = processor.get("avx512_bf16", False) or processor.get("amx_tile", False)
    return torch.bfloat16 if fast else torch.float32


def choose_attention(packing: bool) -> str | None:
    """Return variable-length attention for packed rows on a GPU that has it, else None for the library's default.

    Without it a mask over the whole block separates packed rows.
    """
    return "flash_attention_2" if packing and torch.cuda.is_available() and is_flash_attn_2_available() else None


def set_thread_count(max_threads: int | None = None) -> None:
    """Set the number of torch's threads to the number of cores that this process may use, at most `max_threads`.

    OMP_NUM_THREADS comes first, then a container's quota, then the CPU affinity.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    # A container sees all cores of its machine. Threads beyond its quota would only wait for each other.
    if quota.is_file():
        share, period = quota.read_text().split()
        cores = cores if share == "max" else max(1, min(cores, int(share) // int(period)))
    configured = os.environ.get("OMP_NUM_THREADS", "")
    cores = int(configured) if configured.isdigit() and int(configured) else cores
    torch.set_num_threads(min(cores, max_threads or cores))


def _first_line(error: Exception, path: Path | None) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.replace(str(path), path.name) if path else line
