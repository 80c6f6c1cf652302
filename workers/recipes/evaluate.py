"""Loss on held-out rows."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from workers.recipes.failures import Failure

LOGITS_AT_ONCE = {"cpu": 2**24, "cuda": 2**28}  # numbers, so 64 MB and 1 GB in float32


@dataclass(frozen=True)
class Evaluation:
    """loss: mean cross-entropy per predicted token, in nats. perplexity: exp(loss). rows: how many were read."""

    loss: float
    perplexity: float
    rows: int


@torch.no_grad()
def evaluate(model: PreTrainedModel, pad_token_id: int, rows: Dataset) -> Evaluation:
    """Cross-entropy of the labelled tokens of `rows` (`input_ids`, `labels`), every token counting the same.

    (Trainer.evaluate averages over batches, so there a short row's tokens weigh more.)
    Raises Failure("diverged") if the loss is not a number.
    """
    model.eval()
    collate = DataCollatorForLanguageModeling(pad_token_id=pad_token_id)
    total, tokens = 0.0, 0
    for batch in batches(rows, model.config.get_text_config().vocab_size, LOGITS_AT_ONCE[model.device.type]):
        padded = {key: value.to(model.device) for key, value in collate(batch).items()}
        targets = padded.pop("labels")[:, 1:]
        logits = model(**padded, use_cache=False).logits[:, :-1]
        wanted = targets != -100
        total += cross_entropy(logits[wanted].float(), targets[wanted], reduction="sum").item()
        tokens += int(wanted.sum())
    loss = total / max(1, tokens)
    if not math.isfinite(loss):
        raise Failure("diverged", "The loss is no longer a number. Choose a smaller learning rate.")
    return Evaluation(loss, math.exp(min(loss, 700.0)), len(rows))  # exp(710) is beyond a float


def batches(rows: Dataset, vocabulary: int, logits_at_once: int) -> Iterator[list[dict]]:
    """Rows of like length together, as many as keep rows x longest x vocabulary within bounds."""
    batch: list[dict] = []
    for row in sorted(rows, key=lambda row: len(row["input_ids"])):
        if batch and (len(batch) + 1) * len(row["input_ids"]) * vocabulary > logits_at_once:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
