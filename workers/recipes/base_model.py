"""The model to start from, and the device and precision it runs in."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import is_flash_attn_2_available

from workers.recipes.failures import Failure, classify
from workers.recipes.job import BaseModel


@dataclass(frozen=True)
class Base:
    """name: what to publish. weights: their number, without an adapter. note: where it comes from, in words."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    weights: int
    revision: str | None
    made_on_the_spot: bool
    note: str


def load_base(wanted: BaseModel, packing: bool) -> Base:
    """The model and tokenizer at a path or a name on the hub, on `device()` in `precision()`.

    Never runs code that comes with a model, never unpickles weights. Raises Failure("base_model_not_found").
    """
    if wanted.path and not (wanted.path / "config.json").is_file():
        raise Failure(
            "base_model_not_found",
            f"There is no model in the configured folder {wanted.shown!r} (no config.json). Correct its path.",
        )
    source = str(wanted.path or wanted.name)
    safe = {"revision": wanted.revision or "main", "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **safe)
        model = AutoModelForCausalLM.from_pretrained(
            source, **safe, use_safetensors=True, dtype=precision(), attn_implementation=attention(packing)
        )
    except (OSError, ValueError) as error:
        raise classify(error) or Failure(
            "base_model_not_found",
            f"The base model {wanted.shown!r} cannot be loaded: {_first_line(error, wanted.path)}",
        ) from error
    if tokenizer.eos_token is None:
        raise Failure("base_model_not_found", f"The tokenizer of {wanted.shown!r} has no end token.")
    if tokenizer.pad_token is None:
        # Padding is masked in attention and loss, so the end token can stand in without being unlearned.
        tokenizer.pad_token = tokenizer.eos_token
    note = "read from a folder on this machine" if wanted.path else f"revision {wanted.revision or 'main'} of the hub"
    return Base(model.to(device()), tokenizer, wanted.shown, model.num_parameters(), wanted.revision, False, note)


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision() -> torch.dtype:
    """bfloat16 where the hardware multiplies in it, else float32 (emulated bfloat16 is slower than float32)."""
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def attention(packing: bool) -> str | None:
    """Variable-length attention for packed rows on a GPU that has it; None leaves the choice to transformers.

    Without it packed rows are still kept apart, by a mask over the whole block.
    """
    return "flash_attention_2" if packing and torch.cuda.is_available() and is_flash_attn_2_available() else None


def use_threads(most: int | None = None) -> None:
    """As many threads as this process may use cores: a container's quota counts, not the machine's size."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.is_file():
        share, period = quota.read_text().split()
        cores = cores if share == "max" else max(1, min(cores, int(share) // int(period)))
    asked = os.environ.get("OMP_NUM_THREADS", "")
    cores = int(asked) if asked.isdigit() and int(asked) else cores
    torch.set_num_threads(min(cores, most or cores))


def _first_line(error: Exception, path: Path | None) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.replace(str(path), path.name) if path else line
