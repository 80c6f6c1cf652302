"""A base model made on the spot, for a machine without one: small, Llama-shaped, with a tokenizer of its own.

It learns to read from the train split's text alone, so it knows nothing else; it is there so that the whole way to
an adapter can be walked in a minute, not to be useful. Deterministic for a seed, a text and a number of threads.
"""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, get_cosine_schedule_with_warmup

from workers.recipes.chat_dataset import Messages
from workers.recipes.events import Emit
from workers.recipes.failures import Failure

NOTE = (
    "made on the spot for this fine-tune: a small Llama-shaped model with its own tokenizer that has read only the "
    "train file's text and knows nothing else"
)
END, PAD = "<|end|>", "<|pad|>"
VOCABULARY = 1024  # long words of a few hundred rows would be seen once and never learned
HIDDEN, LAYERS, HEADS, INNER = 160, 4, 5, 432
SPREAD = 0.05  # of the first weights; the usual 0.02 suits wide models, and this one would long learn only frequencies

BLOCK, BATCH = 128, 8  # tokens in a row, rows in a step
PASSES, FEWEST_STEPS, MOST_STEPS = 6, 40, 150  # over the text; the bounds keep the time between 5 and 25 s
LEARNING_RATE = 4e-3


def make_tiny(
    dialogues: list[Messages], seed: int, max_length: int, emit: Emit
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """A tokenizer and a model (about 1.6 million weights) trained on the dialogues' text, plain next-token loss.

    Emits progress events of the stage base_model. Raises Failure("diverged") if the loss is no longer a number.
    """
    torch.manual_seed(seed)
    texts = ["\n".join(message["content"] for message in dialogue) for dialogue in dialogues]
    tokenizer = train_tokenizer(texts, max_length)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=HIDDEN,
            intermediate_size=INNER,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            max_position_embeddings=max(max_length, 2048),
            tie_word_embeddings=True,
            initializer_range=SPREAD,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    read(model, blocks(texts, tokenizer), seed, emit)
    return model, tokenizer


def train_tokenizer(texts: list[str], max_length: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE over these texts. All 256 bytes are in it, so any language can be written, if not briefly."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, model_max_length=max(max_length, 2048)
    )


def blocks(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """The texts as one stream, each closed by the end token, cut into rows: int64, (rows, at most BLOCK)."""
    stream = []
    for ids in tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]:
        stream += [*ids, tokenizer.eos_token_id]
    width = min(BLOCK, len(stream))
    return torch.tensor(stream[: len(stream) // width * width]).view(-1, width)


def read(model: LlamaForCausalLM, rows: torch.Tensor, seed: int, emit: Emit) -> None:
    """Train the model in place on rows (rows, width), for a number of steps bounded on both sides."""
    steps = max(FEWEST_STEPS, min(MOST_STEPS, PASSES * len(rows) // BATCH))
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.1)
    schedule = get_cosine_schedule_with_warmup(optimizer, steps // 10, steps)
    model.train()
    for step in range(1, steps + 1):
        batch = rows[torch.randint(len(rows), (min(BATCH, len(rows)),), generator=order)]
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
