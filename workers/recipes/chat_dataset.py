"""From messages (JSON lines) to tokens and labels.

The rows are handed to TRL already tokenised, with labels, which it takes as they are (SFTTrainer, "pre-tokenized
datasets"). Doing it here rather than through TRL's prompt-completion or `assistant_only_loss` paths gives three
things they do not: every assistant turn is trained on, whatever the chat template, without `{% generation %}`
markers; a control token spelt out in somebody's text stays text; and the rows that were cut are counted.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from datasets import Dataset, Features, List, Value, concatenate_datasets
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from workers.recipes.failures import Failure

ROLES = ("system", "user", "assistant")
IGNORED = -100
CHUNK = 1000  # rows held as Python lists at a time; as Arrow columns they take a tenth of the memory

# For a tokenizer without a chat template. Words rather than new tokens, since LoRA leaves the embeddings alone.
# Contents are trimmed and start after a line break, so that no token reaches across the edge of a turn.
CHAT_TEMPLATE = """\
{%- if bos_token %}{{ bos_token }}{% endif %}
{%- for message in messages %}
{%- if not loop.first %}{{ '\\n\\n' }}{% endif %}
{{- message['role'] | capitalize + ':\\n' + message['content'] | trim }}
{%- if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '\\n\\nAssistant:\\n' }}{% endif %}"""

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Encoded:
    """Rows ready to train on.

    rows: a dataset with `input_ids` and `labels` (int32 lists of one length; -100 where no loss is taken).
    truncated: rows longer than max_length, the dropped ones among them.
    dropped: rows left out because the cut left nothing to learn from.
    """

    rows: Dataset
    truncated: int
    dropped: int


def read_messages(path: Path) -> list[Messages]:
    """The dialogues in a JSON-lines file, in order; keys other than `messages` are ignored.

    A dialogue ends with its last assistant turn: what follows it teaches nothing.
    Raises Failure("invalid_job") naming the file and the line.
    """
    dialogues = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    dialogues.append(parse_dialogue(json.loads(line)))
                except ValueError as error:
                    raise Failure("invalid_job", f"{path.name}, line {number}: {error}.") from error
    return dialogues


def parse_dialogue(row: object) -> Messages:
    messages = row.get("messages") if isinstance(row, dict) else None
    if not isinstance(messages, list):
        raise ValueError("no list of messages")
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise ValueError(f"a message's role must be one of {', '.join(ROLES)}")
        if not isinstance(message.get("content"), str):
            raise ValueError("a message's content must be text")
    answers = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    if not answers:
        raise ValueError("no assistant message to learn from")
    if answers[0] == 0:
        raise ValueError("an assistant message cannot come first")
    return [{"role": m["role"], "content": m["content"]} for m in messages[: answers[-1] + 1]]


def use_chat_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Give the tokenizer our chat template if it has none of its own; whether it needed one."""
    if tokenizer.chat_template:
        return False
    tokenizer.chat_template = CHAT_TEMPLATE
    return True


def encode(
    dialogues: Sequence[Messages], tokenizer: PreTrainedTokenizerBase, max_length: int, assistant_only: bool = True
) -> Encoded:
    """Tokenise dialogues, label them and cut them after `max_length` tokens.

    Raises Failure("invalid_job") if the tokenizer's chat template refuses a dialogue (a system turn, say).
    """
    truncated = dropped = 0
    chunks = []
    for start in range(0, len(dialogues), CHUNK):
        rows = {"input_ids": [], "labels": []}
        for dialogue in dialogues[start : start + CHUNK]:
            input_ids, labels = _encode(dialogue, tokenizer, assistant_only)
            truncated += len(input_ids) > max_length
            # The first token is never predicted, so a label there teaches nothing.
            if all(label == IGNORED for label in labels[1:max_length]):
                dropped += 1
                continue
            rows["input_ids"].append(input_ids[:max_length])
            rows["labels"].append(labels[:max_length])
        chunks.append(_dataset(rows))
    return Encoded(concatenate_datasets(chunks or [_dataset({"input_ids": [], "labels": []})]), truncated, dropped)


def _dataset(rows: dict[str, list]) -> Dataset:
    return Dataset.from_dict(rows, features=Features({key: List(Value("int32")) for key in rows}))


def _encode(
    dialogue: Messages, tokenizer: PreTrainedTokenizerBase, assistant_only: bool
) -> tuple[list[int], list[int]]:
    try:
        input_ids = render(dialogue, tokenizer)
        if not assistant_only:
            return input_ids, list(input_ids)
        labels = [IGNORED] * len(input_ids)
        for start, end in _answers(dialogue, input_ids, tokenizer):
            labels[start:end] = input_ids[start:end]
    except (TemplateError, ValueError) as error:
        raise Failure("invalid_job", f"The base model's chat template refuses a row: {error}.") from error
    return input_ids, labels


def _answers(dialogue: Messages, input_ids: list[int], tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[int, int]]:
    """Where the assistant's turns stand in the whole dialogue's tokens, each with its end-of-turn token.

    A turn starts where its prompt, as the model will see it at inference, ends. Some templates render an earlier
    turn differently once others follow (they strip its reasoning, say); such a turn is left out, the last one never.
    """
    for place, message in enumerate(dialogue):
        if message["role"] != "assistant":
            continue
        prompt = render(dialogue[:place], tokenizer, add_generation_prompt=True)
        if place == len(dialogue) - 1:
            yield common_prefix(prompt, input_ids), len(input_ids)
            return
        answered = render(dialogue[: place + 1], tokenizer)
        if input_ids[: len(answered)] == answered and answered[: len(prompt)] == prompt:
            yield len(prompt), len(answered)


def render(dialogue: Messages, tokenizer: PreTrainedTokenizerBase, add_generation_prompt: bool = False) -> list[int]:
    return tokenizer.apply_chat_template(
        dialogue,
        add_generation_prompt=add_generation_prompt,
        tokenize=True,
        return_dict=False,
        # A row that spells out <|im_end|> must not end its own turn.
        sanitize_control_tokens=True,
    )


def common_prefix(first: list[int], second: list[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
