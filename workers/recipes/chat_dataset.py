"""Turns dialogues (JSON lines) into tokens and labels.

TRL accepts rows that are tokenised and labelled already (SFTTrainer, "pre-tokenized datasets"). This module tokenises
and labels them itself for three reasons. Every assistant turn is trained on, whatever the chat template, without
`{% generation %}` markers. A control token that is spelt out in a text stays text. And truncated rows are counted.
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
IGNORED_LABEL = -100
# Rows are held as Python lists only for a chunk: as Arrow columns they take a tenth of the memory.
CHUNK_ROWS = 1000

# For a tokenizer without a chat template. Roles are plain words, not new tokens, since LoRA trains no embeddings.
# Contents are trimmed and start after a line break, so that no token spans the edge of a turn.
CHAT_TEMPLATE = """\
{%- if bos_token %}{{ bos_token }}{% endif %}
{%- for message in messages %}
{%- if not loop.first %}{{ '\\n\\n' }}{% endif %}
{{- message['role'] | capitalize + ':\\n' + message['content'] | trim }}
{%- if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '\\n\\nAssistant:\\n' }}{% endif %}"""

Dialogue = list[dict[str, str]]


@dataclass(frozen=True)
class EncodedRows:
    """Rows that are ready to train on.

    Attributes:
        rows: `input_ids` and `labels`, int32 lists of the same length; the label is -100 where no loss is taken.
        truncated: The number of rows longer than max_length, including the dropped rows.
        dropped: The number of rows without a labelled token after truncation.
    """

    rows: Dataset
    truncated: int
    dropped: int


def read_messages(path: Path) -> list[Dialogue]:
    """Read the dialogues of a JSON-lines file, in order. Keys other than `messages` are ignored.

    Raises:
        Failure: invalid_job, with the file and the line.
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


def parse_dialogue(row: object) -> Dialogue:
    """Return the dialogue of a decoded row, up to its last assistant turn.

    Raises:
        ValueError: The row has no valid list of messages, or none to learn from.
    """
    messages = row.get("messages") if isinstance(row, dict) else None
    if not isinstance(messages, list):
        raise ValueError("no list of messages")
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise ValueError(f"a message's role must be one of {', '.join(ROLES)}")
        if not isinstance(message.get("content"), str):
            raise ValueError("a message's content must be text")
    assistant_indexes = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    if not assistant_indexes:
        raise ValueError("no assistant message to learn from")
    if assistant_indexes[0] == 0:
        raise ValueError("an assistant message cannot come first")
    # Later turns carry no label, so they would only cost time.
    return [_read_message(message) for message in messages[: assistant_indexes[-1] + 1]]


def _read_message(message: dict) -> dict[str, str]:
    """The fields that chat templates read; the thought of an answer is one, where the snapshot has it for templates."""
    fields = {"role": message["role"], "content": message["content"]}
    if isinstance(message.get("reasoning_content"), str):
        fields["reasoning_content"] = message["reasoning_content"]
    return fields


def use_chat_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Set CHAT_TEMPLATE if the tokenizer has no chat template of its own. Return whether it had none."""
    if tokenizer.chat_template:
        return False
    tokenizer.chat_template = CHAT_TEMPLATE
    return True


def encode_dialogues(
    dialogues: Sequence[Dialogue], tokenizer: PreTrainedTokenizerBase, max_length: int, assistant_only: bool = True
) -> EncodedRows:
    """Tokenise dialogues, label them and truncate them after `max_length` tokens.

    Args:
        dialogues: The dialogues, each ending with an assistant turn.
        tokenizer: A tokenizer with a chat template.
        max_length: The most tokens of a row.
        assistant_only: Whether only the assistant's turns are labelled, or all tokens.

    Raises:
        Failure: invalid_job, if the chat template rejects a dialogue (for a system turn, say).
    """
    truncated = dropped = 0
    chunks = []
    for start in range(0, len(dialogues), CHUNK_ROWS):
        rows = {"input_ids": [], "labels": []}
        for dialogue in dialogues[start : start + CHUNK_ROWS]:
            input_ids, labels = _encode_dialogue(dialogue, tokenizer, assistant_only)
            truncated += len(input_ids) > max_length
            # The first token is never predicted, so a label there teaches nothing.
            if all(label == IGNORED_LABEL for label in labels[1:max_length]):
                dropped += 1
                continue
            rows["input_ids"].append(input_ids[:max_length])
            rows["labels"].append(labels[:max_length])
        chunks.append(_to_dataset(rows))
    return EncodedRows(
        concatenate_datasets(chunks or [_to_dataset({"input_ids": [], "labels": []})]), truncated, dropped
    )


def _to_dataset(rows: dict[str, list]) -> Dataset:
    return Dataset.from_dict(rows, features=Features({key: List(Value("int32")) for key in rows}))


def _encode_dialogue(
    dialogue: Dialogue, tokenizer: PreTrainedTokenizerBase, assistant_only: bool
) -> tuple[list[int], list[int]]:
    try:
        input_ids = render_dialogue(dialogue, tokenizer)
        if not assistant_only:
            return input_ids, list(input_ids)
        labels = [IGNORED_LABEL] * len(input_ids)
        for start, end in _assistant_spans(dialogue, input_ids, tokenizer):
            labels[start:end] = input_ids[start:end]
    except (TemplateError, ValueError) as error:
        raise Failure("invalid_job", f"The base model's chat template rejects a row: {error}.") from error
    return input_ids, labels


def _assistant_spans(
    dialogue: Dialogue, input_ids: list[int], tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of the assistant's turns in the tokens of the dialogue, each with its end-of-turn token.

    A turn starts where its prompt ends, as the model sees the prompt at inference. Some templates render a turn
    differently once others follow (they strip its reasoning, say). Such a turn is skipped; the last turn never is.
    """
    for index, message in enumerate(dialogue):
        if message["role"] != "assistant":
            continue
        prompt = render_dialogue(dialogue[:index], tokenizer, add_generation_prompt=True)
        if index == len(dialogue) - 1:
            yield common_prefix_length(prompt, input_ids), len(input_ids)
            return
        turn_end_ids = render_dialogue(dialogue[: index + 1], tokenizer)
        if input_ids[: len(turn_end_ids)] == turn_end_ids and turn_end_ids[: len(prompt)] == prompt:
            yield len(prompt), len(turn_end_ids)


def render_dialogue(
    dialogue: Dialogue, tokenizer: PreTrainedTokenizerBase, add_generation_prompt: bool = False
) -> list[int]:
    """Return the tokens of a dialogue in the tokenizer's chat template."""
    return tokenizer.apply_chat_template(
        dialogue,
        add_generation_prompt=add_generation_prompt,
        tokenize=True,
        return_dict=False,
        # A row that spells out <|im_end|> must not end its own turn.
        sanitize_control_tokens=True,
    )


def common_prefix_length(first: list[int], second: list[int]) -> int:
    """Return the number of tokens that both lists begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
