"""Measures how likely answers are under a model: given their prompts, and without them.

The score `ifd` is Instruction-Following Difficulty (Li et al. 2024, "From Quantity to Quality", section 2).
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jinja2 import TemplateError
from torch.nn.functional import cross_entropy

from app.training_jobs.hyperparameters import Hyperparameters
from app.training_jobs.jobs import ScoreJob
from workers.recipes.chat_dataset import Dialogue, common_prefix_length, parse_dialogue, render_dialogue
from workers.recipes.evaluate import MAX_LOGITS
from workers.recipes.events import Emit
from workers.recipes.failures import Failure, classify_error
from workers.recipes.fine_tune import clamp_max_length, prepare_base_model

MAX_PERPLEXITY = 1e30


@dataclass(frozen=True)
class ScoredText:
    """Token ids, of which those from index `start` on are predicted.

    `is_unconditional` says that the text is the answer without its prompt.
    """

    row: int
    is_unconditional: bool
    ids: list[int]
    start: int


def read_rows(path: Path) -> list[tuple[str, Dialogue]]:
    """Read (id, dialogue) of each JSON line.

    Raises:
        Failure: invalid_job, with the file and the line.
    """
    rows = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                raw = json.loads(line)
                rows.append((str(raw["id"]), parse_dialogue(raw)))
            except (ValueError, KeyError, TypeError) as error:
                raise Failure("invalid_job", f"{path.name}, line {number}: {error}.") from error
    if not rows:
        raise Failure("invalid_job", f"{path.name} has no rows.")
    return rows


class Scorer:
    """Scores rows by a model."""

    def __init__(self, job: ScoreJob, rows: Sequence[tuple[str, Dialogue]], emit: Emit):
        # A row may be longer than training takes.
        hyperparameters = Hyperparameters().model_copy(update={"max_length": job.max_length})
        self.base = prepare_base_model(job, hyperparameters, [dialogue for _, dialogue in rows], emit)
        self.rows, self.max_length = rows, clamp_max_length(hyperparameters, self.base).max_length
        self.model = self.base.model.eval()
        vocabulary = self.model.config.get_text_config().vocab_size
        self.max_tokens = max(1, MAX_LOGITS[self.model.device.type] // vocabulary)

    def scores(self) -> Iterator[dict]:
        """Yield one score for each row, in no particular order.

        A score has the keys id, perplexity, ifd, tokens (of the answer) and truncated; without a result the
        first two are null and a reason is given.
        """
        texts_by_index: dict[int, list[ScoredText]] = {}
        truncated: set[int] = set()
        for index in range(len(self.rows)):
            result = self._build_texts(index, truncated)
            if isinstance(result, str):
                yield self._missing_score(index, result, index in truncated)
            else:
                texts_by_index[index] = result
        order = sorted(texts_by_index, key=lambda index: len(texts_by_index[index][0].ids))
        for group in self._group_by_length(order, texts_by_index):
            losses = self._mean_losses([text for index in group for text in texts_by_index[index]])
            for index in group:
                yield self._build_score(index, texts_by_index[index], losses, index in truncated)

    def _build_texts(self, index: int, truncated: set[int]) -> list[ScoredText] | str:
        """Return the answer with its prompt and without it, or the reason why there is nothing to score."""
        dialogue, tokenizer = self.rows[index][1], self.base.tokenizer
        try:
            prompt_ids = render_dialogue(dialogue[:-1], tokenizer, add_generation_prompt=True)
            dialogue_ids = render_dialogue(dialogue, tokenizer)
        except (TemplateError, ValueError) as error:
            return f"the chat template rejects the row: {error}"
        start = common_prefix_length(prompt_ids, dialogue_ids)
        if len(dialogue_ids) > self.max_length:
            truncated.add(index)
        answer_ids = dialogue_ids[start : self.max_length]
        if not answer_ids:
            return "no token of the answer is within max_length"
        first_id = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        # Without its prompt the answer follows one token, so that its own first token is predicted, too.
        return [
            ScoredText(index, False, dialogue_ids[: self.max_length], start),
            ScoredText(index, True, [first_id, *answer_ids], 1),
        ]

    def _group_by_length(self, order: list[int], texts: dict[int, list[ScoredText]]) -> Iterator[list[int]]:
        group: list[int] = []
        for index in order:
            # Each row stands for two texts: the answer with its prompt and without it.
            if group and 2 * (len(group) + 1) * len(texts[index][0].ids) > self.max_tokens:
                yield group
                group = []
            group.append(index)
        if group:
            yield group

    def _mean_losses(self, texts: list[ScoredText]) -> dict[tuple[int, bool], float]:
        """Return the mean loss in nats per predicted token, by (row, is_unconditional).

        If the memory is not sufficient, the texts are halved and later groups are smaller.
        """
        try:
            return self._forward(texts)
        except Exception as error:
            failure = classify_error(error)
            if failure is None or failure.kind != "not_enough_memory" or len(texts) == 1:
                raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.max_tokens = max(1, self.max_tokens // 2)
        middle = len(texts) // 2
        return self._mean_losses(texts[:middle]) | self._mean_losses(texts[middle:])

    # Padding is masked twice: the model does not see it, and its loss is not counted.
    @torch.no_grad()
    def _forward(self, texts: list[ScoredText]) -> dict[tuple[int, bool], float]:
        max_ids = max(len(text.ids) for text in texts)
        shape, device = (len(texts), max_ids), self.model.device
        ids = torch.full(shape, self.base.tokenizer.pad_token_id, dtype=torch.long)
        attention_mask = torch.zeros(shape, dtype=torch.long)
        is_predicted = torch.zeros(shape, dtype=torch.bool)
        for n, text in enumerate(texts):
            ids[n, : len(text.ids)] = torch.tensor(text.ids)
            attention_mask[n, : len(text.ids)] = 1
            is_predicted[n, text.start : len(text.ids)] = True
        ids, attention_mask, is_predicted = ids.to(device), attention_mask.to(device), is_predicted.to(device)
        logits = self.model(input_ids=ids, attention_mask=attention_mask, use_cache=False).logits[:, :-1]
        is_predicted, targets = is_predicted[:, 1:], ids[:, 1:]
        nats = torch.zeros(is_predicted.shape, dtype=torch.float32, device=device)
        nats[is_predicted] = cross_entropy(logits[is_predicted].float(), targets[is_predicted], reduction="none")
        means = (nats.sum(1) / is_predicted.sum(1).clamp(min=1)).tolist()
        return {(text.row, text.is_unconditional): mean for text, mean in zip(texts, means, strict=True)}

    def _build_score(self, index: int, texts: list[ScoredText], losses: dict, truncated: bool) -> dict:
        conditional_loss, unconditional_loss = losses[index, False], losses[index, True]
        # Perplexities beyond e^69 (about 1e30) say nothing, and larger ones overflow.
        perplexity = math.exp(conditional_loss) if conditional_loss < 69 else math.inf
        ifd = (
            math.exp(conditional_loss - unconditional_loss)
            if abs(conditional_loss - unconditional_loss) < 69
            else math.inf
        )
        if not (perplexity < MAX_PERPLEXITY and ifd < MAX_PERPLEXITY):
            return self._missing_score(index, "the likelihood is not a finite number", truncated)
        tokens = len(texts[0].ids) - texts[0].start
        return {
            "id": self.rows[index][0],
            "perplexity": round(perplexity, 6),
            "ifd": round(ifd, 6),
            "tokens": tokens,
            "truncated": truncated,
        }

    def _missing_score(self, index: int, reason: str, truncated: bool) -> dict:
        id = self.rows[index][0]
        return {"id": id, "perplexity": None, "ifd": None, "tokens": 0, "truncated": truncated, "reason": reason}
