"""Prompts that a caller brings, each instead of the built-in prompt of the same name."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.synth.prompting.prompts import FIELD, fields_of

# Characters. The prompt is sent with every call, so its length is a cost of each row.
MAX_PROMPT_LENGTH = 20_000
PromptText = Annotated[str, Field(min_length=1, max_length=MAX_PROMPT_LENGTH)]


class CustomPrompt(BaseModel):
    """The texts of a prompt. A part that is not given stays the built-in one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: PromptText | None = Field(default=None, description="The fixed part: the same in every call, no fields.")
    user: PromptText | None = Field(
        default=None, description="The part of each call, with each {{field}} of the built-in prompt and no other."
    )

    @model_validator(mode="after")
    def has_a_part(self) -> "CustomPrompt":
        """Check that a part is given, and that the fixed part has no fields."""
        if self.system is None and self.user is None:
            raise ValueError("give system, user or both")
        if self.system is not None and FIELD.search(self.system):
            raise ValueError("system: the fixed part takes no fields; put them into user")
        return self


def check_prompts(prompts: dict[str, CustomPrompt], names: Sequence[str]) -> None:
    """Check that the method has each prompt, and that each has the fields of the built-in one.

    Args:
        prompts: the caller's prompts by name.
        names: the prompts of the method.

    Raises:
        ValueError: a prompt has an unknown name, lacks a field, or has another one. The message names it.
    """
    for name, prompt in prompts.items():
        if name not in names:
            raise ValueError(f"no prompt {name!r}; this method has {', '.join(names)}")
        if prompt.user is None:
            continue
        # A missing field would silently leave out the material, and an unknown one would fail in the middle of a run.
        required_fields, fields = fields_of(name), set(FIELD.findall(prompt.user))
        if missing := sorted(required_fields - fields):
            raise ValueError(f"{name}: user lacks the fields {_with_braces(missing)}")
        if unknown := sorted(fields - required_fields):
            raise ValueError(f"{name}: user has the fields {_with_braces(unknown)}, which the built-in prompt has not")


def _with_braces(fields: Sequence[str]) -> str:
    return ", ".join("{{" + field + "}}" for field in fields)
