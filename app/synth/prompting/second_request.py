"""A second request for a reply that could not be read: optional, and at most one for each reply."""

from dataclasses import replace

from pydantic_core import from_json

from app.synth.prompting.replies import refusal_of
from app.synth.reply_forms import read_tagged
from app.synth.types import Ask, Prompt, Reply

_REQUEST = {
    "en": "Your reply could not be read. Write its content again, in exactly the form that was asked for and nothing "
    "else.",
    "ko": "답을 읽을 수 없었습니다. 같은 내용을 요청한 형식 그대로 다시 쓰고 다른 말은 덧붙이지 마세요.",
}


def with_second_request(ask: Ask) -> Ask:
    """Return an `ask` that asks once more where a reply with parts could not be read.

    The teacher sees its own reply. A reply that was refused, cut or empty is not asked for again: a second one would
    most likely end in the same way. Both calls are paid for; the row's lineage names the one that was used.
    """

    async def ask_twice(prompt: Prompt) -> Reply:
        reply = await ask(prompt)
        return reply if _is_readable(reply, prompt) else await ask(_second_prompt(prompt, reply))

    return ask_twice


def _is_readable(reply: Reply, prompt: Prompt) -> bool:
    """Whether a parser can begin with the reply, or a second one would not help."""
    if prompt.schema is None or refusal_of(reply) is not None or reply.finish_reason == "length":
        return True
    keys = prompt.schema_keys
    if read_tagged(reply.text, keys) is not None:
        return True
    try:
        value = from_json(reply.text)
    except ValueError:
        return False
    return isinstance(value, dict) and not set(keys).isdisjoint(value)


def _second_prompt(prompt: Prompt, reply: Reply) -> Prompt:
    language = prompt.language.split("-")[0].lower()
    return replace(
        prompt,
        position=f"{prompt.position}-again",
        turns=(*prompt.turns, ("user", prompt.user), ("assistant", reply.text)),
        user=_REQUEST.get(language, _REQUEST["en"]),
    )
