"""The requests that a method would make for a batch, without any call to a teacher.

The method itself runs on sample replies, which are built from the schema of each request. Where a later request
contains text of an earlier reply, it has a placeholder in ⟦ ⟧. A yes or no in a reply may decide which request comes
next, so the method runs once with yes in every reply, and once more with a no for each of these decisions.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from app.synth.methods.method import Method
from app.synth.types import Batch, Candidate, Prompt, Reply

OPENING, CLOSING = "⟦", "⟧"
Decision = tuple[str, str]
"""A request by the name of its prompt, and the field of its reply that says yes or no."""


@dataclass
class _SampleTeacher:
    """A teacher that builds replies from the schema. `says_no`: the decision that is a no; all others are a yes."""

    values: dict[str, Any]
    says_no: Decision | None
    prompts: list[Prompt] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)

    async def __call__(self, prompt: Prompt) -> Reply:
        self.prompts.append(prompt)
        if prompt.schema is None:
            return Reply(str(self.values.get("text", self._placeholder("text", prompt))), id=prompt.position)
        return Reply(json.dumps(self._sample(prompt.schema, "", prompt), ensure_ascii=False), id=prompt.position)

    def _sample(self, schema: dict, name: str, prompt: Prompt) -> Any:
        if name in self.values:
            return self.values[name]
        if "enum" in schema:
            return schema["enum"][0]
        value_type = schema["type"]
        if value_type == "object":
            return {key: self._sample(inner, key, prompt) for key, inner in schema["properties"].items()}
        if value_type == "array":
            return [self._sample(schema["items"], name, prompt)]
        if value_type == "boolean":
            decision = (prompt.step, name)
            self.decisions.append(decision)
            return decision != self.says_no
        return schema.get("maximum", 1) if value_type == "integer" else self._placeholder(name, prompt)

    @staticmethod
    def _placeholder(name: str, prompt: Prompt) -> str:
        return f"{OPENING}{name} of the reply to {prompt.position}{CLOSING}"


async def preview(method: Method, batch: Batch) -> list[Prompt]:
    """Return one request of each type that the batch's options can make, in the order in which a row meets them.

    Args:
        method: the method.
        batch: a batch, of which the first parent or source is used.
    """
    batch = replace(batch, parents=batch.parents[:1], sources=batch.sources[:1])
    # By step, judge and template: requests that differ by their fields alone look the same to a reader.
    unique: dict[tuple[str, str, str], Prompt] = {}
    for variant in method.variants(batch.options):
        # A rule of form would reject a placeholder, and the later requests would never be made.
        options = variant.model_copy(update={"rules": (), "minimum_scores": {}})
        for prompt in await _all_requests(method, replace(batch, options=options)):
            unique.setdefault((prompt.step, prompt.by, prompt.template), prompt)
    return list(unique.values())


async def _all_requests(method: Method, batch: Batch) -> Sequence[Prompt]:
    # A no may lead to a request with further decisions, so the loop runs until none is left untried.
    prompts, decisions = await _requests(method, batch, None)
    tried: set[Decision] = set()
    while untried := [decision for decision in decisions if decision not in tried]:
        tried.add(untried[0])
        new_prompts, new_decisions = await _requests(method, batch, untried[0])
        prompts, decisions = [*prompts, *new_prompts], [*decisions, *new_decisions]
    return prompts


async def _requests(method: Method, batch: Batch, says_no: Decision | None) -> tuple[list[Prompt], list[Decision]]:
    teacher = _SampleTeacher(method.sample_values(batch), says_no)
    await method.propose(batch, teacher, _nothing_similar)
    return teacher.prompts, teacher.decisions


async def _nothing_similar(draft: Candidate) -> None:
    return None


def has_placeholders(prompt: Prompt) -> bool:
    """Return whether the request has a placeholder for text of an earlier reply."""
    texts = (prompt.user, *(content for _, content in prompt.turns))
    return any(OPENING in text for text in texts)
