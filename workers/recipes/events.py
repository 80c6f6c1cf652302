"""The recipe's voice: one JSON object a line on stdout, and nothing else there.

stage       stage (load, base_model, evaluate_before, train, evaluate_after, save), message;
            the stage train also tells the hyperparameters with every null filled in
progress    stage base_model, step, total_steps, loss: the tiny model learning to read
base_model  name, weights (a number), made_on_the_spot, note
metrics     step, total_steps, epoch, loss, learning_rate, grad_norm, tokens (not padding, so far)
evaluation  split (validation, test), when (before, after), loss (nats per token), perplexity, rows
artifact    name (relative to output_dir/artifacts), bytes, sha256
done        loss_before, loss_after, split they were measured on, train_rows, steps, tokens, seconds,
            truncated_rows, dropped_rows
error       kind (failures.py, or unexpected), message
"""

import json
import os
from collections.abc import Callable
from typing import TextIO

Emit = Callable[..., None]


def take_stdout() -> TextIO:
    """Keep the real stdout for events and send everything else written to it to stderr.

    Done on the file descriptor, because compiled libraries print without asking Python.
    """
    own = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    return own


def emitter(stream: TextIO) -> Emit:
    """A function `emit(event, **fields)` that writes one line to `stream` and flushes it.

    Raises ValueError for a number JSON does not have (nan, inf): a reader must never meet one.
    """

    def emit(event: str, **fields) -> None:
        stream.write(json.dumps({"event": event, **fields}, ensure_ascii=False, allow_nan=False) + "\n")
        stream.flush()

    return emit
