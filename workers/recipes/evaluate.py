"""Measures the loss on held-out rows."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from workers.recipes.failures import Failure

# Logits of one forward pass, by device: 64 MB and 1 GB in float32.
MAX_LOGITS = {"cpu": 2**24, "cuda": 2**28}


@dataclass(frozen=True)
class Evaluation:
    """A loss and where it was measured.

    Attributes:
        loss: Mean cross-entropy per labelled token, in nats.
        perplexity: exp(loss).
        rows: The number of rows.
    """

    loss: float
    perplexity: float
    rows: int


@torch.no_grad()
def evaluate(model: PreTrainedModel, pad_token_id: int, rows: Dataset) -> Evaluation:
    """Return the mean cross-entropy of the labelled tokens of `rows` (columns `input_ids` and `labels`).

    Every token has the same weight. Trainer.evaluate averages over batches, so that tokens of short rows weigh more.

    Raises:
        Failure: diverged, if the loss is not finite.
    """
    model.eval()
    collate = DataCollatorForLanguageModeling(pad_token_id=pad_token_id)
    total, tokens = 0.0, 0
    for batch in group_by_length(rows, model.config.get_text_config().vocab_size, MAX_LOGITS[model.device.type]):
        padded = {key: value.to(model.device) for key, value in collate(batch).items()}
        targets = padded.pop("labels")[:, 1:]
        logits = model(**padded, use_cache=False).logits[:, :-1]
        is_labelled = targets != -100
        total += cross_entropy(logits[is_labelled].float(), targets[is_labelled], reduction="sum").item()
        tokens += int(is_labelled.sum())
    loss = total / max(1, tokens)
    if not math.isfinite(loss):
        raise Failure("diverged", "The loss is no longer a number. Choose a smaller learning rate.")
    # exp(710) exceeds a float.
    return Evaluation(loss, math.exp(min(loss, 700.0)), len(rows))


def group_by_length(rows: Dataset, vocabulary_size: int, max_logits: int) -> Iterator[list[dict]]:
    """Yield batches of rows of similar length, so that rows x longest row x vocabulary is at most `max_logits`."""
    batch: list[dict] = []
    # Sorted by length, a batch has hardly any padding.
    for row in sorted(rows, key=lambda row: len(row["input_ids"])):
        if batch and (len(batch) + 1) * len(row["input_ids"]) * vocabulary_size > max_logits:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
