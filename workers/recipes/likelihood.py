"""How likely a model finds answers: given their prompts, and alone."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jinja2 import TemplateError
from torch.nn.functional import cross_entropy

from workers.recipes.chat_dataset import Messages, common_prefix, parse_dialogue, render
from workers.recipes.evaluate import LOGITS_AT_ONCE
from workers.recipes.events import Emit
from workers.recipes.failures import Failure, classify
from workers.recipes.fine_tune import open_base, within_reach
from workers.recipes.job import Hyperparameters
from workers.recipes.score_job import ScoreJob

MOST_PERPLEXITY = 1e30


@dataclass(frozen=True)
class Text:
    """Tokens of which those from `start` on are predicted."""

    row: int
    alone: bool
    ids: list[int]
    start: int


def read_rows(path: Path) -> list[tuple[str, Messages]]:
    """(id, dialogue) of JSON lines. Raises Failure("invalid_job") naming the file and the line."""
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
    """A model with the rows that it is to score."""

    def __init__(self, job: ScoreJob, rows: Sequence[tuple[str, Messages]], emit: Emit):
        asked = Hyperparameters(max_length=job.max_length)
        self.base = open_base(job, asked, [dialogue for _, dialogue in rows], emit)
        self.rows, self.most = rows, within_reach(asked, self.base).max_length
        self.model = self.base.model.eval()
        vocabulary = self.model.config.get_text_config().vocab_size
        self.tokens_at_once = max(1, LOGITS_AT_ONCE[self.model.device.type] // vocabulary)

    def scores(self) -> Iterator[dict]:
        """A score for each row, those of like length together; every row comes once, in no order to rely on."""
        texts: dict[int, list[Text]] = {}
        truncated: set[int] = set()
        for place in range(len(self.rows)):
            made = self._texts(place, truncated)
            if isinstance(made, str):
                yield self._nothing(place, made, place in truncated)
            else:
                texts[place] = made
        order = sorted(texts, key=lambda place: len(texts[place][0].ids))
        for group in self._groups(order, texts):
            losses = self._losses([text for place in group for text in texts[place]])
            for place in group:
                yield self._score(place, texts[place], losses, place in truncated)

    def _texts(self, place: int, truncated: set[int]) -> list[Text] | str:
        """The answer behind its prompt, and alone; or why there is nothing to score."""
        dialogue, tokenizer = self.rows[place][1], self.base.tokenizer
        try:
            prompt = render(dialogue[:-1], tokenizer, add_generation_prompt=True)
            whole = render(dialogue, tokenizer)
        except (TemplateError, ValueError) as error:
            return f"the chat template refuses it: {error}"
        start = common_prefix(prompt, whole)
        if len(whole) > self.most:
            truncated.add(place)
        answer = whole[start : self.most]
        if not answer:
            return "no token of the answer is within max_length"
        first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        return [Text(place, False, whole[: self.most], start), Text(place, True, [first, *answer], 1)]

    def _groups(self, order: list[int], texts: dict[int, list[Text]]) -> Iterator[list[int]]:
        group: list[int] = []
        for place in order:
            if group and 2 * (len(group) + 1) * len(texts[place][0].ids) > self.tokens_at_once:
                yield group
                group = []
            group.append(place)
        if group:
            yield group

    def _losses(self, texts: list[Text]) -> dict[tuple[int, bool], float]:
        """Mean nats a predicted token. When the memory is not enough, half of the texts at a time."""
        try:
            return self._measured(texts)
        except Exception as error:
            known = classify(error)
            if known is None or known.kind != "not_enough_memory" or len(texts) == 1:
                raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.tokens_at_once = max(1, self.tokens_at_once // 2)
        middle = len(texts) // 2
        return self._losses(texts[:middle]) | self._losses(texts[middle:])

    @torch.no_grad()
    def _measured(self, texts: list[Text]) -> dict[tuple[int, bool], float]:
        longest = max(len(text.ids) for text in texts)
        shape, device = (len(texts), longest), self.model.device
        ids = torch.full(shape, self.base.tokenizer.pad_token_id, dtype=torch.long)
        seen = torch.zeros(shape, dtype=torch.long)
        wanted = torch.zeros(shape, dtype=torch.bool)
        for n, text in enumerate(texts):
            ids[n, : len(text.ids)] = torch.tensor(text.ids)
            seen[n, : len(text.ids)] = 1
            wanted[n, text.start : len(text.ids)] = True
        ids, seen, wanted = ids.to(device), seen.to(device), wanted.to(device)
        logits = self.model(input_ids=ids, attention_mask=seen, use_cache=False).logits[:, :-1]
        wanted, targets = wanted[:, 1:], ids[:, 1:]
        nats = torch.zeros(wanted.shape, dtype=torch.float32, device=device)
        nats[wanted] = cross_entropy(logits[wanted].float(), targets[wanted], reduction="none")
        means = (nats.sum(1) / wanted.sum(1).clamp(min=1)).tolist()
        return {(text.row, text.alone): mean for text, mean in zip(texts, means, strict=True)}

    def _score(self, place: int, texts: list[Text], losses: dict, truncated: bool) -> dict:
        given, alone = losses[place, False], losses[place, True]
        perplexity = math.exp(given) if given < 69 else math.inf
        ifd = math.exp(given - alone) if abs(given - alone) < 69 else math.inf
        if not (perplexity < MOST_PERPLEXITY and ifd < MOST_PERPLEXITY):
            return self._nothing(place, "the model's likelihood is no finite number", truncated)
        tokens = len(texts[0].ids) - texts[0].start
        return {
            "id": self.rows[place][0],
            "perplexity": round(perplexity, 6),
            "ifd": round(ifd, 6),
            "tokens": tokens,
            "truncated": truncated,
        }

    def _nothing(self, place: int, reason: str, truncated: bool) -> dict:
        id = self.rows[place][0]
        return {"id": id, "perplexity": None, "ifd": None, "tokens": 0, "truncated": truncated, "reason": reason}
