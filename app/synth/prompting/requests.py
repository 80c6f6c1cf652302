"""Builds a request from a prompt file and its fields, with the schema of the reply."""

import zlib

from app.synth.prompting.prompts import template, with_texts
from app.synth.types import Batch, Prompt

TEXT = {"type": "string"}
YES_NO = {"type": "boolean"}
ONE_TO_FIVE = {"type": "integer", "minimum": 1, "maximum": 5}


def prompt_for(
    batch: Batch,
    name: str,
    position: str,
    fields: dict[str, object],
    schema: dict | None,
    *,
    step: str | None = None,
    temperature: float,
    max_tokens: int,
    top_p: float | None = None,
    presence_penalty: float | None = None,
    by: str = "teacher",
    operation: str | None = None,
    turns: tuple[tuple[str, str], ...] = (),
    seed: int = 0,
    texts_digest: str = "",
) -> Prompt:
    """Build the request of a prompt in the batch's language.

    Args:
        batch: gives the language, the seed and the caller's own prompts.
        name: the prompt; the caller's prompt of this name replaces the built-in one.
        position: names the call inside the batch. The seed of the request depends on it, so that two requests with the
            same text differ, and a teacher that keeps to seeds answers them differently.
        fields: the values of the prompt's fields.
        schema: the JSON schema of the reply, None for a plain text.
        step: the type of call under which its cost is counted; the prompt's name by default.
        temperature: of the reply.
        max_tokens: of the reply.
        top_p: of the reply.
        presence_penalty: of the reply.
        by: who answers, `teacher` or `judge`.
        operation: the operation of Evol-Instruct that the call is for.
        turns: (role, content) of the dialogue so far.
        seed: is added to the seed of the batch, so that repeated requests differ.
        texts_digest: name and digest of other texts of the caller that are filled in; the row's lineage has it beside
            the digest of the prompt.

    Raises:
        ValueError: a field is missing, or the prompt has no such field.
    """
    prompt_template = template(name, batch.language)
    # The caller's text gets a digest of its own, so that rows of both texts can be told apart later.
    custom = batch.options.prompts.get(name)
    if custom is not None:
        prompt_template = with_texts(prompt_template, name, custom.system, custom.user)
    return Prompt(
        step=step or name,
        position=position,
        system=prompt_template.system,
        user=prompt_template.render(**fields),
        schema=schema,
        temperature=temperature,
        max_tokens=max_tokens,
        template=f"{prompt_template.digest}+{texts_digest}" if texts_digest else prompt_template.digest,
        # Servers take a seed of 32 bits with a sign.
        seed=(batch.seed + seed + zlib.crc32(position.encode())) % 2**31,
        top_p=top_p,
        presence_penalty=presence_penalty,
        turns=turns,
        by=by,
        language=batch.language,
        operation=operation,
    )


def numbers_up_to(count: int) -> dict:
    """Return the schema of a number that names one of `count` texts of a prompt, from 1."""
    return {"type": "integer", "minimum": 1, "maximum": count}


def object_schema(name: str, properties: dict[str, dict]) -> dict:
    """Return the JSON schema of an object that needs all of these properties and allows no other."""
    return {
        "title": name,
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def list_schema(name: str, item: dict, max_items: int, min_items: int = 1) -> dict:
    """Return an object with one list, under `name`."""
    return object_schema(name, {name: {"type": "array", "items": item, "minItems": min_items, "maxItems": max_items}})


def item_schema(properties: dict[str, dict]) -> dict:
    """Return the schema of an object inside a list, which has no title."""
    return {key: value for key, value in object_schema("", properties).items() if key != "title"}
