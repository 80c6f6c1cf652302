"""The values of the library. All are frozen: a step takes values and returns new ones."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from app.synth.reply_forms import ReplyForm, describe

UNKNOWN_VERDICTS = "unknown_verdicts"
"""The tag that lists the steps whose yes or no could not be read; a report counts them."""


@dataclass(frozen=True)
class Instance:
    """One worked example of an instruction. `input` is empty where the instruction needs none."""

    input: str
    output: str


@dataclass(frozen=True)
class Demonstration:
    """An instruction that a prompt shows to the teacher: a seed (written by a person) or an accepted record."""

    id: str
    instruction: str
    instances: tuple[Instance, ...] = ()
    is_classification: bool | None = None


@dataclass(frozen=True)
class Turn:
    """One message of a dialogue. `role`: user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class Parent:
    """An accepted record from which others grow.

    Attributes:
        group_id: the id of the representative of its group: of the rows with the same instruction.
        round: how often its instruction was evolved; 0 for one that was not.
        ancestors: the ids of the records that it grew from itself.
        origin: seed, generated or imported. This field and those after it are read by the filter of parents alone.
    """

    id: str
    instruction: str
    input: str = ""
    output: str = ""
    group_id: str = ""
    round: int = 0
    ancestors: tuple[str, ...] = ()
    origin: str | None = None
    run_id: str | None = None
    method: str | None = None
    operation: str | None = None
    topic: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """Uploaded material: a labelled row of a task, or a passage of a document.

    Attributes:
        task: the task family of a labelled row, empty for a passage.
        fields: the fields of the labelled row; or `document`, `title`, `text`, `start` and `end` of the passage, the
            last two in characters of the document.
    """

    id: str
    task: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class Batch:
    """All that shapes the prompts of one batch: an equal batch makes equal requests.

    Attributes:
        options: the options of the method, validated.
        language: a BCP-47 tag.
        seed: of the random choices of this batch; it is also sent to the teacher.
        size: how many proposals to make.
        demonstrations: the instructions that the prompt for new instructions shows.
        examples: seeds that the prompts for classification and instances show, the same in every batch of a run.
        parents: the records to grow from.
        sources: the labelled rows or passages to use.
        conditioning: what the prompts of this batch demand: a topic, a task type, a category.
    """

    options: Any
    language: str
    # Stored with the plan, so that a second try of the batch makes the same requests and gets the stored replies.
    seed: int
    size: int = 1
    demonstrations: tuple[Demonstration, ...] = ()
    examples: tuple[Demonstration, ...] = ()
    parents: tuple[Parent, ...] = ()
    sources: tuple[Source, ...] = ()
    conditioning: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prompt:
    """A complete request to a teacher.

    Attributes:
        step: the type of call under which its cost is counted.
        position: names the call inside its batch, so that two equal requests of one batch are two calls.
        schema: the JSON schema of the reply, None for a plain text.
        template: name and digest of the prompt file, for the lineage of rows.
        turns: (role, content) of the dialogue so far, before `user`.
        by: who answers, `teacher` or `judge`.
        language: a BCP-47 tag.
        operation: the operation of Evol-Instruct that the call is for, so that costs can be reported by operation.
        presence_penalty: lowers the probability of tokens that the text has already; None: not sent.
    """

    step: str
    position: str
    system: str
    user: str
    schema: dict | None
    temperature: float
    max_tokens: int
    template: str
    seed: int | None = None
    top_p: float | None = None
    turns: tuple[tuple[str, str], ...] = ()
    by: str = "teacher"
    language: str = "en"
    operation: str | None = None
    presence_penalty: float | None = None

    @property
    def schema_keys(self) -> tuple[str, ...]:
        """The names of the parts that the reply should have; none for a plain text."""
        return () if self.schema is None else tuple(self.schema.get("properties", ()))

    def messages(self, form: ReplyForm = "json_object") -> list[dict[str, str]]:
        """Return the messages that a teacher gets. The fixed part ends with the instruction to reply in this form."""
        system = self.system
        if self.schema is not None:
            system = f"{system}\n\n{describe(self.schema, form, self.language)}"
        # The fixed part comes first and the fields last, so that a provider's prompt cache serves the common beginning.
        messages = [("system", system), *self.turns, ("user", self.user)]
        return [{"role": role, "content": content} for role, content in messages]


@dataclass(frozen=True)
class Usage:
    """Tokens of one call.

    Attributes:
        prompt: tokens of the request.
        cached: the part of `prompt` that the provider had cached.
        completion: tokens of the reply.
        thought: the part of `completion` that the model spent on its thought, before its answer.
    """

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    thought: int = 0


@dataclass(frozen=True)
class Reply:
    """The reply of a teacher.

    Attributes:
        finish_reason: `stop`, `length`, `content_filter`, or one of ours: `context_length`, `unreadable`.
        refusal: the server's message that the model refused.
        id: names the stored completion.
        simulated: whether the server says that it simulates a teacher.
        thought: what the model considered before it answered; no parser reads it.
        raw_text: the text as it came, where markup of a thought was taken out of `text`, or its JSON was repaired.
        repairs: the names of those repairs.
    """

    text: str
    finish_reason: str = "stop"
    refusal: str | None = None
    usage: Usage = Usage()
    id: str = ""
    simulated: bool = False
    thought: str = ""
    raw_text: str | None = None
    repairs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rejection:
    """Why a candidate was rejected: the reason, the value against its threshold, and the nearest text if any."""

    reason: str
    value: float | str | None = None
    threshold: float | str | None = None
    nearest_id: str | None = None
    nearest_text: str | None = None


@dataclass(frozen=True)
class Pair:
    """A preference that cost no call: two answers to the candidate's instruction and input.

    Attributes:
        kind: `best_worst` (of several answers) or `evolution` (the child's answer, and its parent's, which does not
            meet the new demands).
        margin: the difference of their scores, of which 1.0 is the whole scale.
    """

    kind: str
    chosen: str
    rejected: str
    margin: float


@dataclass(frozen=True)
class Candidate:
    """A row offered for admission, or one already rejected (`rejection` set).

    Attributes:
        name: its name inside the proposal, by which another candidate can name it as a parent.
        scope: what is compared when duplicates are sought: the `instruction` (with the pool's), or the whole `row`
            (exact copies only), for rows that share an instruction on purpose.
        resembles: ids or names that an evolved instruction may be near to, since it grew from them.
        messages: the turns of a dialogue; empty for a row with a single answer.
        reasoning: the chain of thought that a prompt asked for.
        thought: what the teacher considered, without being asked, before it wrote the output.
        round: how often the instruction was evolved, counted from the seed or import.
        source: the document and the span, in characters, that support the answer.
        parents: ids of demonstrations or records, or the `name` of another candidate of the same proposal.
        completions: ids of the replies it was made from.
        templates: name and digest of each prompt, and of what the caller brought in.
        simulated: whether one of the replies was simulated.
    """

    instruction: str
    input: str = ""
    output: str = ""
    is_classification: bool | None = None
    name: str = ""
    scope: Literal["instruction", "row"] = "instruction"
    resembles: tuple[str, ...] = ()
    messages: tuple[Turn, ...] = ()
    reasoning: str = ""
    thought: str = ""
    operation: str | None = None
    round: int | None = None
    scores: dict[str, float] = field(default_factory=dict)
    tags: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] | None = None
    pairs: tuple[Pair, ...] = ()
    parents: tuple[str, ...] = ()
    completions: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    simulated: bool = False
    rejection: Rejection | None = None

    def reject(self, reason: str, *details: Any, **fields: Any) -> "Candidate":
        """Return the same row with a rejection."""
        return replace(self, rejection=Rejection(reason, *details), **fields)

    def with_unknown_verdict(self, step: str) -> "Candidate":
        """Return the same row, with a note that the yes or no of this step could not be read."""
        return replace(self, tags={**self.tags, UNKNOWN_VERDICTS: [*self.tags.get(UNKNOWN_VERDICTS, ()), step]})

    def after(self, prompt: "Prompt", reply: "Reply") -> "Candidate":
        """Return the same row with one more reply in its history.

        The thought is that of the teacher's last reply, since the last reply writes the output in every method.
        """
        return replace(
            self,
            thought=reply.thought if prompt.by == "teacher" else self.thought,
            completions=(*self.completions, reply.id),
            templates=(*self.templates, prompt.template),
            simulated=self.simulated or reply.simulated,
        )


class CallFailed(Exception):
    """A call failed for good: the teacher refuses its prompt, or it got no answer after all its tries.

    The proposal that needed the answer is rejected, and no other.
    """

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


class CallsEnded(Exception):
    """No further call will be made for this batch: only the rows that are complete by now can be admitted."""


# `app.synth` gets its teacher and its encoder as functions, so that it has no client, no queue and no model of its own.
# In a worker `Ask` is a `TeacherCaller` of `app.calls.caller`, and `Prefilter` a `PoolPrefilter` of a batch.
Ask = Callable[[Prompt], Awaitable[Reply]]
Encode = Callable[[Sequence[str]], np.ndarray]
"""Texts in, float32 of shape (texts, dimensions) out, each row of unit length."""


@dataclass(frozen=True)
class Encoder:
    """A function for embeddings, with the facts that distinguish its vectors from those of another encoder.

    Attributes:
        encode: texts in, unit vectors out.
        identity: name, backend, revision, dtype, pooling and dimensions.
    """

    encode: Encode
    identity: dict[str, Any]


Prefilter = Callable[[Candidate], Awaitable[Rejection | None]]
"""Compares an instruction with the pool and with the batches in flight, before anything more is paid for it.

Returns the rejection of a near duplicate, or None."""


@dataclass(frozen=True)
class Proposal:
    """What one batch produced, in a stable order: candidates to offer and rows already rejected."""

    candidates: tuple[Candidate, ...] = field(default_factory=tuple)
