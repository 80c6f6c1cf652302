"""Causal language models with weights set by hand: each token is followed by one of a few tokens.

They are real models in a folder, so that tests load and run them as any other, and know what they write.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END, PAD, WORD, FILLER = "<|end|>", "<|pad|>", "<|word|>", "<|filler{}|>"
# Every word of a prompt is one token, whatever it is.
TEMPLATE = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}assistant :"
# Far above the zero of all other tokens, at any temperature.
LOGIT = 100.0


def save_model_that_writes(folder: Path, text: str, completion_tokens: int = 5, ends: bool = True) -> Path:
    """Save a model that answers any prompt with the text, as one token, and then with tokens that have no text."""
    fillers = [FILLER.format(number) for number in range(completion_tokens - (2 if text else 1))]
    chain = [WORD, *([text] if text else []), *fillers, END if ends else fillers[-1]]
    return save_model(folder, {token: [following] for token, following in pairwise(chain)})


def save_model_that_chooses(folder: Path, words: Sequence[str], **settings) -> Path:
    """Save a model that writes the words in any order, each as likely as any other, and never ends."""
    return save_model(folder, {WORD: words} | dict.fromkeys(words, words), **settings)


def save_model(
    folder: Path, followers: Mapping[str, Sequence[str]], template: str | None = TEMPLATE, context_tokens: int = 4096
) -> Path:
    """Save a model and its tokenizer.

    Args:
        folder: Where they are saved.
        followers: The tokens that may follow each token, all equally likely.
        template: The chat template; None for a model without one.
        context_tokens: The most tokens that the model reads.
    """
    named = dict.fromkeys([PAD, END, WORD, *followers, *(token for row in followers.values() for token in row)])
    ids = {token: number for number, token in enumerate(named)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=WORD))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    specials = [token for token in ids if token.startswith("<|")]
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, unk_token=WORD, additional_special_tokens=specials
    )
    fast.chat_template = template
    fast.save_pretrained(folder)
    _bigram_model(ids, followers, context_tokens).save_pretrained(folder)
    return folder


def _bigram_model(ids: dict[str, int], followers: Mapping[str, Sequence[str]], context_tokens: int) -> LlamaForCausalLM:
    """Return a model whose one layer adds nothing, so that the logits are a row of a matrix for the last token."""
    width = -(-len(ids) // 4) * 4
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(ids),
            hidden_size=width,
            intermediate_size=4,
            num_hidden_layers=1,
            num_attention_heads=1,
            max_position_embeddings=context_tokens,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=ids[END],
            pad_token_id=ids[PAD],
        )
    )
    with torch.no_grad():
        for name, weights in model.named_parameters():
            weights.fill_(1.0 if "norm" in name else 0.0)
        model.model.embed_tokens.weight.copy_(torch.eye(len(ids), width))
        for token, row in followers.items():
            for following in row:
                model.lm_head.weight[ids[following], ids[token]] = LOGIT
    return model
