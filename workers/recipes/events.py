"""The events of a recipe: one JSON object a line on stdout, and nothing else there.

stage       stage (load, base_model, evaluate_before, train, evaluate_after, save), message;
            the stage train also has the hyperparameters, with a value for every null
progress    stage base_model, step, total_steps, loss: the pre-training of the tiny model
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


def reserve_stdout() -> TextIO:
    """Return the real stdout for events, and send everything else that is written to it to stderr."""
    # The redirection is on the file descriptor, since compiled libraries print without Python's sys.stdout.
    event_stream = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    return event_stream


def make_emitter(stream: TextIO) -> Emit:
    """Return a function `emit(event, **fields)` that writes one line to `stream` and flushes it.

    The function raises ValueError for nan and inf, which JSON does not have, so that no reader fails on them.
    """

    def emit(event: str, **fields) -> None:
        stream.write(json.dumps({"event": event, **fields}, ensure_ascii=False, allow_nan=False) + "\n")
        stream.flush()

    return emit
