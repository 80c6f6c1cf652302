"""Reasoning models: a thought with a draft of the answer in it, in every markup and every field that is in use."""

import json
import random
from collections.abc import Callable

from app.simulator.personalities.personality import Bill, Personality, WrittenReply

DRAFT_MARK = "DRAFT"
# Longer than any call allows.
_LONG_THOUGHT = " Let me check that once more, step by step, before I answer." * 4000

# name: (opening, closing, between the thought and the answer, after the answer, servers)
_MARKUPS = {
    "think": (
        "<think>\n",
        "\n</think>",
        "\n\n",
        "",
        "DeepSeek-R1, Qwen3, QwQ, GLM-4.5 behind servers without a parser",
    ),
    "think_escaped": ("&lt;think&gt;", "&lt;/think&gt;", "\n", "", "proxies that escape HTML"),
    "think_brackets": ("[THINK]", "[/THINK]", "", "", "Magistral"),
    "think_seed": ("<seed:think>", "</seed:think>", "", "", "Seed-OSS"),
    "think_kimi": ("◁think▷", "◁/think▷", "", "", "Kimi-VL-Thinking"),
    "think_solution": (
        *("<|begin_of_thought|>", "<|end_of_thought|>", "\n\n<|begin_of_solution|>", "<|end_of_solution|>"),
        "OpenThinker, Sky-T1",
    ),
    "think_command_a": (
        *("<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>"),
        "Command A Reasoning",
    ),
    "think_apertus": ("<|inner_prefix|>", "<|inner_suffix|>", "", "", "Apertus"),
    "think_gemma": ("<|channel>thought\n", "<channel|>", "", "", "Gemma with thinking"),
    "think_thinking": ("<thinking>\n", "\n</thinking>", "\n\n", "", "models with a prompt for a chain of thought"),
    "think_thought": ("<thought>\n", "\n</thought>", "\n\n", "", "EXAONE Deep, Marco-o1"),
    "think_reasoning": ("<reasoning>\n", "\n</reasoning>", "\n\n<answer>\n", "\n</answer>", "models tuned by GRPO"),
    "think_ant": ("<antThinking>", "</antThinking>", "\n", "", "proxies of Claude"),
    "think_details": (
        *('<details type="reasoning" done="true">\n<summary>Thought for 3 seconds</summary>\n', "\n</details>\n", ""),
        *("", "Open WebUI and other proxies that write HTML"),
    ),
    "think_granite": ("Here is my thought process:\n", "\n\nHere is my response:\n", "", "", "Granite 3.2"),
    "think_harmony": (
        *("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>", "", ""),
        "gpt-oss behind servers that pass special tokens on",
    ),
    "think_harmony_bare": ("analysis", "assistantfinal", "", "", "gpt-oss behind servers that drop special tokens"),
    # The opening marker stands in the prompt.
    "think_opened_by_template": ("", "\n</think>", "\n\n", "", "DeepSeek-R1 and Qwen3-Thinking on vLLM and SGLang"),
}


def make_draft(text: str) -> str:
    """Return a draft of the answer: of the same form, with other values, and a mark in each text."""
    try:
        return json.dumps(_mark(json.loads(text)), ensure_ascii=False)
    except ValueError:
        return f"{DRAFT_MARK} {text[:400]}"


def _mark(value: object) -> object:
    if isinstance(value, dict):
        return {name: _mark(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_mark(part) for part in value]
    if isinstance(value, bool):
        return not value
    return f"{DRAFT_MARK} {value}" if isinstance(value, str) else value


def _thought(reply: WrittenReply, rng: random.Random) -> str:
    opening = rng.choice(("Okay, let me see what is wanted.", "The user asks for this. I have to be careful."))
    return f"{opening} A first try:\n{make_draft(reply.text)}\nWait, that is too plain. I will write it anew."


def _think_in_markup(opening: str, closing: str, between: str, after: str) -> Callable:
    def write(reply: WrittenReply, rng: random.Random) -> WrittenReply:
        return reply.with_text(f"{opening}{_thought(reply, rng)}{closing}{between}{reply.text}{after}")

    return write


def _think_apart(reply: WrittenReply, rng: random.Random) -> WrittenReply:
    return WrittenReply(reply.text, _thought(reply, rng))


def _think_twice(reply: WrittenReply, rng: random.Random) -> WrittenReply:
    thoughts = f"<think>{_thought(reply, rng)}</think>\n\n<think>{_thought(reply, rng)}</think>\n\n"
    return reply.with_text(thoughts + reply.text)


def _think_too_long(reply: WrittenReply, rng: random.Random) -> WrittenReply:
    return reply.with_text(f"<think>\n{_thought(reply, rng)}{_LONG_THOUGHT}\n</think>\n\n{reply.text}")


def _think_too_long_apart(reply: WrittenReply, rng: random.Random) -> WrittenReply:
    return WrittenReply(reply.text, _thought(reply, rng) + _LONG_THOUGHT)


def _put_in(field: str) -> Callable[[dict, str], None]:
    def shape(message: dict, thought: str) -> None:
        message[field] = thought

    return shape


def _put_in_details(message: dict, thought: str) -> None:
    message["reasoning_details"] = [{"type": "reasoning.text", "text": thought, "format": "unknown", "index": 0}]


def _put_in_parts(message: dict, thought: str) -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": thought}]}]
    message["content"] = [*parts, {"type": "text", "text": message["content"]}]


def _count_inside(body: dict, bill: Bill) -> None:
    body["usage"]["completion_tokens_details"] = {"reasoning_tokens": bill.thought}


def _count_beside(body: dict, bill: Bill) -> None:
    body["usage"]["completion_tokens"] = bill.completion - bill.thought
    body["usage"]["completion_tokens_details"] = {"reasoning_tokens": bill.thought}


PERSONALITIES = (
    *(Personality(name, servers, write=_think_in_markup(*parts)) for name, (*parts, servers) in _MARKUPS.items()),
    Personality("think_twice", "QwQ, Marco-o1", write=_think_twice),
    Personality("think_cut", "any reasoning model whose max_tokens is too small", write=_think_too_long),
    Personality(
        "think_cut_apart",
        "DeepSeek, vLLM with a reasoning parser, when max_tokens is too small",
        write=_think_too_long_apart,
        shape_message=_put_in("reasoning_content"),
    ),
    Personality(
        "reasoning_content",
        "vLLM, SGLang, llama.cpp, LM Studio with a reasoning parser",
        write=_think_apart,
        shape_message=_put_in("reasoning_content"),
    ),
    Personality("reasoning", "Ollama, Groq, newer vLLM", write=_think_apart, shape_message=_put_in("reasoning")),
    Personality("reasoning_details", "OpenRouter", write=_think_apart, shape_message=_put_in_details),
    Personality("reasoning_parts", "Mistral (Magistral)", write=_think_apart, shape_message=_put_in_parts),
    Personality(
        "reasoning_tokens_inside",
        "OpenAI, DeepSeek: completion_tokens has the reasoning tokens in it",
        write=_think_apart,
        shape_message=_put_in("reasoning_content"),
        shape_body=_count_inside,
    ),
    Personality(
        "reasoning_tokens_beside",
        "xAI, Gemini: completion_tokens does not have the reasoning tokens in it",
        write=_think_apart,
        shape_message=_put_in("reasoning_content"),
        shape_body=_count_beside,
    ),
)
