"""Makes a base model for a machine without one: a small Llama with a tokenizer of its own.

The model is pre-trained on the text of the train split alone, so it knows nothing else. It is not useful: it lets a
fine-tune run from start to end within a minute. It is deterministic for a seed, a text and a number of threads.
"""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, get_cosine_schedule_with_warmup

from workers.recipes.chat_dataset import Dialogue
from workers.recipes.events import Emit
from workers.recipes.failures import Failure

NOTE = (
    "made on the spot for this fine-tune: a small Llama-shaped model with its own tokenizer that has read only the "
    "train file's text and knows nothing else"
)
END, PAD = "<|end|>", "<|pad|>"
# With more tokens a few hundred rows would show most of them once, which is too rarely to learn them.
VOCABULARY_SIZE = 1024
HIDDEN_SIZE, LAYERS, HEADS, INNER_SIZE = 160, 4, 5, 432
# The usual 0.02 suits wide models; with it this one would learn nothing but frequencies for a long time.
INITIALIZER_RANGE = 0.05

BLOCK_TOKENS, BATCH_ROWS = 128, 8
# The bounds keep the time between 5 and 25 seconds, whatever the size of the text.
EPOCHS, MIN_STEPS, MAX_STEPS = 6, 40, 150
LEARNING_RATE = 4e-3


def make_tiny_model(
    dialogues: list[Dialogue], seed: int, max_length: int, emit: Emit
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Return a model of about 1.6 million parameters and its tokenizer, pre-trained on the dialogues' text.

    Args:
        dialogues: The train rows.
        seed: Decides the first weights and the order of the batches.
        max_length: The most tokens of a row in the fine-tune, for which the model needs positions.
        emit: Receives progress events of the stage base_model.

    Raises:
        Failure: diverged, if the loss is no longer a number.
    """
    torch.manual_seed(seed)
    texts = ["\n".join(message["content"] for message in dialogue) for dialogue in dialogues]
    tokenizer = train_tokenizer(texts, max_length)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=HIDDEN_SIZE,
            intermediate_size=INNER_SIZE,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            max_position_embeddings=max(max_length, 2048),
            tie_word_embeddings=True,
            initializer_range=INITIALIZER_RANGE,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    pretrain(model, cut_into_blocks(texts, tokenizer), seed, emit)
    return model, tokenizer


def train_tokenizer(texts: list[str], max_length: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer trained on the texts.

    It has a token for each of the 256 bytes, so it can encode any language, though not in few tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        min_frequency=2,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, model_max_length=max(max_length, 2048)
    )


def cut_into_blocks(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Return the texts as int64 token ids of shape (rows, at most BLOCK_TOKENS), with an end token after each text."""
    token_ids = []
    for ids in tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]:
        token_ids += [*ids, tokenizer.eos_token_id]
    width = min(BLOCK_TOKENS, len(token_ids))
    return torch.tensor(token_ids[: len(token_ids) // width * width]).view(-1, width)


def pretrain(model: LlamaForCausalLM, rows: torch.Tensor, seed: int, emit: Emit) -> None:
    """Train the model in place on token ids of shape (rows, width), with plain next-token loss."""
    steps = max(MIN_STEPS, min(MAX_STEPS, EPOCHS * len(rows) // BATCH_ROWS))
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.1)
    schedule = get_cosine_schedule_with_warmup(optimizer, steps // 10, steps)
    model.train()
    for step in range(1, steps + 1):
        batch = rows[torch.randint(len(rows), (min(BATCH_ROWS, len(rows)),), generator=generator)]
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step == 1 or step == steps or step % max(1, steps // 20) == 0:
            if not torch.isfinite(loss):
                raise Failure("diverged", "The tiny base model's loss is no longer a number.")
            emit("progress", stage="base_model", step=step, total_steps=steps, loss=round(loss.item(), 4))
    model.eval()
