"""Messages and finish reasons that differ from those of the protocol, and models that write something else."""

import json
import random

from app.simulator.personalities.personality import Bill, Personality, WrittenReply

_CUT_TOKENS = 160
_REPEATS = 3000
_FOREIGN = "这是一个用中文写成的回答。模型忽略了提示所用的语言。"


def _move_to_tool_call(message: dict, thought: str) -> None:
    function = {"name": "reply", "arguments": message["content"]}
    message["tool_calls"] = [{"id": "call_0", "type": "function", "function": function}]
    message["content"] = None


def _end_by_tool_call(body: dict, bill: Bill) -> None:
    _set_finish_reason(body, "tool_calls")


def _set_content(content: object):
    def shape(message: dict, thought: str) -> None:
        message["content"] = content

    return shape


def _split_into_parts(message: dict, thought: str) -> None:
    middle = len(message["content"]) // 2
    texts = message["content"][:middle], message["content"][middle:]
    message["content"] = [{"type": "text", "text": text} for text in texts]


def _set_finish_reason(body: dict, finish_reason: str) -> None:
    for choice in body["choices"]:
        choice["finish_reason"] = finish_reason


def _finish(finish_reason: str):
    return lambda body, bill: _set_finish_reason(body, finish_reason)


def _drop_finish_reason(body: dict, bill: Bill) -> None:
    for choice in body["choices"]:
        del choice["finish_reason"]


def _filter_reply(body: dict, bill: Bill) -> None:
    _set_finish_reason(body, "content_filter")
    for choice in body["choices"]:
        choice["message"]["content"] = ""


def _repeat(reply: WrittenReply, rng: random.Random) -> WrittenReply:
    """Write two thirds of the reply, and its last words again and again until the tokens are used up."""
    start = reply.text[: len(reply.text) * 2 // 3]
    return reply.with_text(start + start[-40:] * _REPEATS)


def _apologise(reply: WrittenReply, rng: random.Random) -> WrittenReply:
    return reply.with_text("I'm sorry, but I can't help with that request.")


def _put_in_refusal(message: dict, thought: str) -> None:
    message["refusal"], message["content"] = "I'm sorry, I can't assist with that.", None


def _translate(reply: WrittenReply, rng: random.Random) -> WrittenReply:
    try:
        value = json.loads(reply.text)
    except ValueError:
        return reply.with_text(_foreign_text(rng))
    return reply.with_text(json.dumps(_replace_texts(value, rng), ensure_ascii=False))


def _replace_texts(value: object, rng: random.Random) -> object:
    if isinstance(value, dict):
        return {name: _replace_texts(part, rng) for name, part in value.items()}
    if isinstance(value, list):
        return [_replace_texts(part, rng) for part in value]
    return _foreign_text(rng) if isinstance(value, str) and value else value


def _foreign_text(rng: random.Random) -> str:
    return f"{_FOREIGN}编号{rng.randrange(10**6)}。"


PERSONALITIES = (
    Personality(
        "tool_call",
        "models that take a schema for a tool, proxies of Claude",
        shape_message=_move_to_tool_call,
        shape_body=_end_by_tool_call,
    ),
    Personality("null_content", "models that broke off, some proxies", shape_message=_set_content(None)),
    Personality("empty_content", "models that end at once, llama.cpp", shape_message=_set_content("")),
    Personality("content_parts", "Mistral, Databricks", shape_message=_split_into_parts),
    Personality("content_filter_finish", "Azure OpenAI, Gemini", shape_body=_filter_reply),
    Personality("cut_reply", "servers with a low limit of their own", max_tokens=_CUT_TOKENS),
    Personality(
        "cut_with_stop", "proxies that lose the finish reason", max_tokens=_CUT_TOKENS, shape_body=_finish("stop")
    ),
    Personality("finish_missing", "some proxies", shape_body=_drop_finish_reason),
    Personality("finish_eos", "Together, text-generation-inference", shape_body=_finish("eos")),
    Personality("repeats", "small and quantized models", write=_repeat),
    Personality("refuses_with_text", "every chat model", write=_apologise),
    Personality("refuses_in_field", "OpenAI with a JSON schema", shape_message=_put_in_refusal),
    Personality("other_language", "Qwen and other bilingual models", write=_translate),
)
