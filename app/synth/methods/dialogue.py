"""Dialogues of several turns in the manner of ShareGPT and Vicuna (Chiang et al. 2023).

The teacher plays both sides. As the user it reads a transcript and writes the next message; as the assistant it gets
the conversation as chat messages. The options count a message of the user with its answer as one turn.
"""

import random
from dataclasses import replace
from typing import ClassVar

from pydantic import BaseModel, Field, StrictBool, StrictStr, model_validator

from app.synth.methods.method import Method
from app.synth.methods.parents import ParentFilter
from app.synth.novelty.lexical import similarity
from app.synth.prompting.chains import gather_until_budget, reject_on_failure
from app.synth.prompting.prompts import language_name
from app.synth.prompting.replies import read_object, read_text
from app.synth.prompting.requests import TEXT, YES_NO, object_schema, prompt_for
from app.synth.quality.filters import PRESETS, check_instruction
from app.synth.quality.judging import finish, judge_question
from app.synth.quality.options import MethodOptions
from app.synth.quality.rules import Rule
from app.synth.quality.scores import RULE_SCORES
from app.synth.text import clean, count_words
from app.synth.types import Ask, Batch, Candidate, Parent, Prefilter, Proposal, Rejection, Turn

# ROUGE-L F1 above which a message of the user repeats an earlier one.
MAX_SIMILARITY = 0.9


class Options(MethodOptions):
    """What a caller may set. With `topics` each dialogue opens anew on one of them, else from a record."""

    prompt_names: ClassVar[tuple[str, ...]] = (
        "dialogue_opening",
        "dialogue_assistant",
        "dialogue_user",
    )

    parents: ParentFilter = Field(default=ParentFilter(), description="The records that dialogues begin with.")
    topics: tuple[str, ...] = Field(default=(), max_length=1000, description="Start from these, not from records.")
    min_turns: int = Field(default=2, ge=1, le=8, description="A dialogue that ends before is rejected.")
    max_turns: int = Field(default=4, ge=1, le=8, description="Each dialogue draws its length between the two.")
    most_words: int = Field(default=3000, ge=50, description="No further turn once the dialogue has so many words.")
    user_temperature: float = Field(default=1.0, ge=0, le=2, description="Of what the user says.")
    answer_temperature: float = Field(default=0.7, ge=0, le=2, description="Of what the assistant says.")
    user_tokens: int = Field(default=512, ge=32, le=4096, description="Most tokens of a message of the user.")
    answer_tokens: int = Field(default=1024, ge=64, le=8192, description="Most tokens of an answer.")

    @model_validator(mode="after")
    def in_order(self) -> "Options":
        """Check that the minimum of turns is not above the maximum."""
        if self.min_turns > self.max_turns:
            raise ValueError(f"min_turns ({self.min_turns}) is over max_turns ({self.max_turns})")
        return self

    def rules_for(self, language: str) -> tuple[Rule, ...]:
        """Return rules of form for a new opening, since people open a conversation as they like; none for a record."""
        return PRESETS["form" if self.topics else "none"] if self.rules is None else super().rules_for(language)


class Message(BaseModel):
    """The reply with the first message of the user."""

    message: StrictStr


class NextMessage(BaseModel):
    """The reply with a further message of the user; `done` is true when the user is satisfied."""

    done: StrictBool
    message: StrictStr = ""


async def propose(batch: Batch, ask: Ask, prefilter: Prefilter) -> Proposal:
    """Make one dialogue for each parent or topic of the batch."""
    if batch.options.topics:
        chains = (
            reject_on_failure(_draft_on(topic), _from_topic(batch, topic, n, ask, prefilter))
            for n, topic in enumerate(batch.conditioning["topics"])
        )
    else:
        chains = (
            reject_on_failure(_draft_from(parent), _from_record(batch, parent, n, ask))
            for n, parent in enumerate(batch.parents)
        )
    return Proposal(tuple(await gather_until_budget(chains)))


def _draft_on(topic: str) -> Candidate:
    return Candidate("", tags={"topic": topic})


def _draft_from(parent: Parent) -> Candidate:
    return Candidate(parent.instruction, parent.input, parents=(parent.id,), scope="row")


async def _from_record(batch: Batch, parent: Parent, index: int, ask: Ask) -> Candidate:
    opening = f"{parent.instruction}\n\n{parent.input}" if parent.input else parent.instruction
    turns = [Turn("user", opening)] + ([Turn("assistant", parent.output)] if parent.output else [])
    return await _continue_dialogue(batch, _draft_from(parent), turns, index, ask)


async def _from_topic(batch: Batch, topic: str, index: int, ask: Ask, prefilter: Prefilter) -> Candidate:
    prompt = prompt_for(
        batch,
        "dialogue_opening",
        f"opening-{index}",
        {"topic": topic, "language": language_name(batch.language)},
        object_schema("opening", {"message": TEXT}),
        temperature=batch.options.user_temperature,
        max_tokens=batch.options.user_tokens,
        seed=index,
    )
    reply = await ask(prompt)
    draft = _draft_on(topic).after(prompt, reply)
    parsed = read_object(reply, Message)
    if isinstance(parsed, Rejection):
        return replace(draft, rejection=parsed)
    draft = replace(draft, instruction=clean(parsed.message))
    fault = check_instruction(draft.instruction, batch.options.rules_for(batch.language))
    fault = fault or await prefilter(draft)
    if fault is not None:
        return replace(draft, rejection=fault)
    if batch.options.judging.question:
        draft = await judge_question(batch, draft, str(index), ask)
        if draft.rejection is not None:
            return draft
    return await _continue_dialogue(batch, draft, [Turn("user", draft.instruction)], index, ask)


async def _continue_dialogue(batch: Batch, draft: Candidate, turns: list[Turn], index: int, ask: Ask) -> Candidate:
    """Continue a dialogue until it has its turns, the user is content, or a reply cannot be used."""
    options: Options = batch.options
    # Seeded, so that a repeated batch asks for dialogues of the same lengths.
    length = random.Random(f"{batch.seed}/{index}").randint(options.min_turns, options.max_turns)
    stop_reason = "length"
    while True:
        if turns[-1].role == "user":
            draft, answer = await _ask_assistant(batch, draft, turns, index, ask)
            if isinstance(answer, Rejection):
                # The earlier turns are complete, so a dialogue that has enough of them ends here instead of being lost.
                has_min_turns = len(turns) // 2 >= options.min_turns
                stop_reason, turns = answer.reason, turns[:-1]
                draft = draft if has_min_turns else replace(draft, rejection=answer)
                break
            turns = [*turns, Turn("assistant", answer)]
        if len(turns) // 2 >= length:
            break
        if sum(count_words(turn.content) for turn in turns) >= options.most_words:
            stop_reason = "most_words"
            break
        # The transcript is the whole context: the teacher that plays the user keeps no state between calls.
        draft, message, end_reason = await _ask_user(batch, draft, turns, index, ask)
        if end_reason:
            stop_reason = end_reason
            break
        turns = [*turns, Turn("user", message)]
    return await _to_row(batch, draft, turns, stop_reason, index, ask)


async def _ask_assistant(
    batch: Batch, draft: Candidate, turns: list[Turn], index: int, ask: Ask
) -> tuple[Candidate, str | Rejection]:
    prompt = prompt_for(
        batch,
        "dialogue_assistant",
        f"assistant-{index}-{len(turns) // 2}",
        {"message": turns[-1].content},
        None,
        temperature=batch.options.answer_temperature,
        max_tokens=batch.options.answer_tokens,
        turns=tuple((turn.role, turn.content) for turn in turns[:-1]),
    )
    reply = await ask(prompt)
    parsed = read_text(reply)
    text = parsed if isinstance(parsed, Rejection) else clean(parsed)
    return draft.after(prompt, reply), text or Rejection("empty_output")


async def _ask_user(
    batch: Batch, draft: Candidate, turns: list[Turn], index: int, ask: Ask
) -> tuple[Candidate, str, str]:
    """Return the draft, the next message of the user, and the reason to end the dialogue, empty when it goes on."""
    prompt = prompt_for(
        batch,
        "dialogue_user",
        f"user-{index}-{len(turns) // 2}",
        {"dialogue": render_transcript(turns), "language": language_name(batch.language)},
        object_schema("next_message", {"done": YES_NO, "message": TEXT}),
        temperature=batch.options.user_temperature,
        max_tokens=batch.options.user_tokens,
    )
    reply = await ask(prompt)
    draft, parsed = draft.after(prompt, reply), read_object(reply, NextMessage)
    if isinstance(parsed, Rejection):
        # The earlier turns are complete: a useless reply ends the dialogue without rejecting it.
        return draft, "", parsed.reason
    text = clean(parsed.message)
    if parsed.done or not text:
        return draft, "", "user_content"
    # A user who repeats a message has run out of purpose.
    if any(similarity(text, turn.content) > MAX_SIMILARITY for turn in turns if turn.role == "user"):
        return draft, "", "user_repeats"
    return draft, text, ""


async def _to_row(
    batch: Batch, draft: Candidate, turns: list[Turn], stop_reason: str, index: int, ask: Ask
) -> Candidate:
    exchanges = len(turns) // 2
    row = replace(
        draft,
        messages=tuple(turns[: 2 * exchanges]),
        output=turns[2 * exchanges - 1].content if exchanges else "",
        tags=draft.tags | {"turns": exchanges, "stopped": stop_reason},
    )
    if row.rejection is not None:
        return row
    if exchanges < batch.options.min_turns:
        return row.reject("too_few_turns", exchanges, batch.options.min_turns)
    # A rule score reads the last answer only, so refusals in earlier turns are looked for here.
    refusal = next(
        (turn for turn in row.messages if turn.role == "assistant" and _is_refusal(turn, batch.language)), None
    )
    if refusal is not None and "no_refusal" in batch.options.minimum_scores:
        return row.reject("low_no_refusal", refusal.content[:200], batch.options.minimum_scores["no_refusal"])
    return await finish(batch, row, str(index), ask)


def _is_refusal(turn: Turn, language: str) -> bool:
    return RULE_SCORES["no_refusal"](Candidate("", output=turn.content), language) == 0


def render_transcript(turns: list[Turn]) -> str:
    """Return the dialogue as text, for the prompt in which the teacher plays the user."""
    return "\n\n".join(f"<{turn.role}>{turn.content}</{turn.role}>" for turn in turns)


def _next_topics(options: Options, size: int, number: int) -> dict[str, list[str]]:
    return {"topics": [options.topics[(number * size + n) % len(options.topics)] for n in range(size)]}


METHOD = Method(
    name="dialogue",
    summary="Conversations of several turns, from records or topics.",
    options=Options,
    make=propose,
    draws_from=lambda options: "nothing" if options.topics else "records",
    batch_size=lambda options: 4,
    candidates=lambda options: 1,
    # The first message may be a record's, with its answer.
    min_steps=lambda options: 2 * options.min_turns if options.topics else 2 * options.min_turns - 2,
    conditioning=_next_topics,
    other_material="topics",
)
