"""Generates a batch of replies. Each row has its own temperature, top_p, seed and length, and can be stopped alone."""

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from app.providers.adapters.local.model import LoadedModel


@dataclass(frozen=True)
class Answer:
    """What the model wrote. `finish_reason`: stop, length or context_length, whose text says what is too long."""

    text: str
    finish_reason: str
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, eq=False)
class Call:
    """One call. Set `stopped` to end it early; its answer then has an end that means nothing."""

    messages: list[dict]
    temperature: float
    top_p: float | None
    max_tokens: int
    seed: int | None
    stopped: threading.Event = field(default_factory=threading.Event)
    future: "Future[Answer]" = field(default_factory=Future)


class Row:
    """A call in a batch: its prompt as token ids, and the state of its sampling."""

    def __init__(self, call: Call, prompt_ids: list[int], context_tokens: int):
        self.call = call
        self.prompt_ids = prompt_ids
        self.max_tokens = min(call.max_tokens, context_tokens - len(prompt_ids))
        # On the CPU always, so that a seed gives the same numbers on every device.
        self.generator = torch.Generator()
        if call.seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(call.seed % 2**63)

    def sample(self, logits: torch.Tensor) -> int:
        """Return the next token id.

        Args:
            logits: Float32 scores of shape (vocabulary).
        """
        if self.call.temperature <= 0:
            return int(logits.argmax())
        probabilities = torch.softmax(logits / self.call.temperature, dim=-1)
        if self.call.top_p is not None and self.call.top_p < 1:
            ordered, ids = probabilities.sort(descending=True, stable=True)
            # A token stays if those before it have less than top_p together, so that one stays always
            # (Holtzman et al. 2020, section 3.1).
            ordered[ordered.cumsum(0) - ordered >= self.call.top_p] = 0
            return int(ids[torch.multinomial(ordered, 1, generator=self.generator)])
        return int(torch.multinomial(probabilities, 1, generator=self.generator))


class RowSampler(LogitsProcessor):
    """Chooses each row's token by the settings of its call, and leaves the model's own choice only that token."""

    def __init__(self, rows: list[Row]):
        self._rows = rows

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores of shape (rows, vocabulary) in which one token of each row is possible."""
        logits = scores.float().cpu()
        chosen = torch.full_like(scores, -torch.inf)
        for index, row in enumerate(self._rows):
            chosen[index, row.sample(logits[index])] = 0
        return chosen


class RowStops(StoppingCriteria):
    """Ends a row that has all its tokens, or whose caller no longer waits."""

    def __init__(self, rows: list[Row], width: int):
        self._rows, self._width = rows, width

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_) -> torch.Tensor:
        """Return which rows end, as booleans of shape (rows)."""
        count = input_ids.shape[1] - self._width
        ended = [count >= row.max_tokens or row.call.stopped.is_set() for row in self._rows]
        return torch.tensor(ended, device=input_ids.device)


def generate(loaded: LoadedModel, calls: list[Call]) -> list[Answer]:
    """Return the answers to the calls, in their order.

    The same call with the same seed gives the same text, but for the rounding of the model's arithmetic, which differs
    between batches of different shapes.
    """
    answers: dict[Call, Answer] = {}
    rows = []
    for call in calls:
        prompt_ids = loaded.encode(call.messages)
        if len(prompt_ids) < loaded.context_tokens:
            rows.append(Row(call, prompt_ids, loaded.context_tokens))
        else:
            message = f"the prompt has {len(prompt_ids)} tokens, and the model reads {loaded.context_tokens}"
            answers[call] = Answer(message, "context_length")
    if rows:
        answers |= {row.call: answer for row, answer in zip(rows, _generate_rows(loaded, rows), strict=True)}
    return [answers[call] for call in calls]


@torch.inference_mode()
def _generate_rows(loaded: LoadedModel, rows: list[Row]) -> list[Answer]:
    width = max(len(row.prompt_ids) for row in rows)
    # Padding stands on the left, so that every row's next token is the last one.
    paddings = [width - len(row.prompt_ids) for row in rows]
    ids = [[loaded.pad_id] * padding + row.prompt_ids for padding, row in zip(paddings, rows, strict=True)]
    mask = [[0] * padding + [1] * (width - padding) for padding in paddings]
    device = loaded.model.device
    sequences = loaded.model.generate(
        input_ids=torch.tensor(ids, device=device),
        attention_mask=torch.tensor(mask, device=device),
        generation_config=GenerationConfig(
            do_sample=False,
            max_new_tokens=max(row.max_tokens for row in rows),
            eos_token_id=sorted(loaded.end_ids),
            pad_token_id=loaded.pad_id,
        ),
        logits_processor=LogitsProcessorList([RowSampler(rows)]),
        stopping_criteria=StoppingCriteriaList([RowStops(rows, width)]),
    )
    return [_answer(loaded, row, sequences[index, width:].tolist()) for index, row in enumerate(rows)]


def _answer(loaded: LoadedModel, row: Row, generated: list[int]) -> Answer:
    """Return the row's text. What follows its end is padding, while other rows went on."""
    ids = generated[: row.max_tokens]
    end = next((index for index, token_id in enumerate(ids) if token_id in loaded.end_ids), None)
    text, was_cut = loaded.decode(ids if end is None else ids[:end])
    finish_reason = "length" if end is None and not was_cut else "stop"
    return Answer(text, finish_reason, len(row.prompt_ids), len(ids) if end is None else end + 1)
