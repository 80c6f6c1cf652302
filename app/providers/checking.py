"""Finds out what a teacher can do, for `seedbed teachers check`: the form of its replies, and its profile."""

import re
import time
from dataclasses import dataclass, field, replace

from pydantic import BaseModel, StrictStr

from app.providers.adapter import FORMS
from app.providers.probing import Prober
from app.providers.profile import TeacherProfile, Thought
from app.providers.protocols import adapter_of
from app.providers.teacher import Endpoint, Served
from app.synth.prompting.replies import read_items
from app.synth.prompting.requests import TEXT, item_schema, list_schema
from app.synth.reply_forms import ReplyForm
from app.synth.teacher_errors import TeacherRefused, TryAgain
from app.synth.types import Prompt, Usage

# With these reasons every form fails, so the other forms need no attempt, and no paid call.
_FINAL_STOP_REASONS = ("credentials_refused", "quota_exhausted", "model_unknown")


class _Example(BaseModel):
    input: StrictStr
    output: StrictStr


_PROMPT = Prompt(
    step="check",
    position="check",
    system="You work out examples of a task.",
    user="Write 2 examples of this task:\n\n<instruction>Give the plural of the following English word.</instruction>",
    schema=list_schema("instances", item_schema({"input": TEXT, "output": TEXT}), 2),
    # As in the steps of the methods: what the teacher refuses of these fields, it refuses here.
    temperature=0.0,
    top_p=0.95,
    seed=1,
    max_tokens=300,
    template="check",
)
_SHORT_PROMPT = replace(_PROMPT, system="", user="Reply with the word yes.", schema=None, max_tokens=16)
_CLOSING_TAG = re.compile(r"</think>|</seed:think>|\[/THINK\]")
_OPENING_TAG = re.compile(r"<think>|<seed:think>|\[THINK\]")


@dataclass(frozen=True)
class FormAttempt:
    """An attempt at one form of reply.

    Attributes:
        form: The form that the teacher was asked for.
        works: Whether the reply was valid.
        message: What the teacher replied, for people.
        seconds: The duration of the call.
        model: The model that the teacher named.
        usage: The tokens that the teacher reported, or None.
    """

    form: ReplyForm
    works: bool
    message: str
    seconds: float
    model: str = ""
    usage: Usage | None = None


@dataclass(frozen=True)
class FormCheck:
    """The attempts at one teacher, in order, the forms for which its protocol has no request, and its profile."""

    name: str
    attempts: tuple[FormAttempt, ...] = field(default=())
    impossible_forms: tuple[ReplyForm, ...] = ()
    profile: TeacherProfile = TeacherProfile()

    @property
    def replies(self) -> ReplyForm | None:
        """Return the first form that works, or None."""
        return next((attempt.form for attempt in self.attempts if attempt.works), None)


async def check(endpoint: Endpoint) -> FormCheck:
    """Ask for each form that the protocol has, the strictest first, until one works; then ask what else it can do.

    At most `MAX_CALLS` small calls to the teacher, which may cost money. Errors of the teacher are part of the result.
    """
    prober, attempts = Prober(endpoint), []
    adapter, served = adapter_of(endpoint), None
    for form in adapter.forms:
        attempt, is_final, served = await _attempt_form(prober, form)
        attempts.append(attempt)
        if attempt.works or is_final or not prober.may_call:
            break
    profile = TeacherProfile().with_settings(prober.endpoint.settings)
    if attempts[-1].works and served is not None:
        profile = replace(
            profile,
            replies=attempts[-1].form,
            thought=_thought_of(served),
            usage_trusted=not served.usage_estimated,
        )
        if adapter.context_tokens is not None:
            honours_n, has_logprobs = await _check_choices(prober)
            context_tokens = await adapter.context_tokens(endpoint)
            profile = replace(profile, honours_n=honours_n, has_logprobs=has_logprobs, context_tokens=context_tokens)
    profile = replace(profile, evidence=tuple(prober.evidence))
    impossible_forms = tuple(form for form in FORMS if form not in adapter.forms)
    return FormCheck(endpoint.name, tuple(attempts), impossible_forms, profile)


async def _attempt_form(prober: Prober, form: ReplyForm) -> tuple[FormAttempt, bool, Served | None]:
    """Return the attempt, whether all other forms would fail, too, and what came."""
    prober.endpoint, start_time = replace(prober.endpoint, replies=form), time.monotonic()
    try:
        served = await prober.call("the form of replies", form, _PROMPT)
    except TeacherRefused as error:
        attempt = FormAttempt(form, False, str(error), time.monotonic() - start_time)
        return attempt, error.stop_reason in _FINAL_STOP_REASONS, None
    except TryAgain as error:
        return FormAttempt(form, False, str(error), time.monotonic() - start_time), False, None
    items, faults = read_items(served.reply, "instances", _Example)
    works = bool(items) and not faults
    message = "valid items" if works else f"{len(items)} valid items of 2; it began {served.reply.text[:80]!r}"
    usage = None if served.usage_estimated else served.reply.usage
    return FormAttempt(form, works, message, time.monotonic() - start_time, served.model, usage), False, served


def _thought_of(served: Served) -> Thought:
    """Return where the thought of this reply was."""
    reply = served.reply
    if not reply.thought:
        return "none"
    raw_text = reply.raw_text or ""
    if _CLOSING_TAG.search(raw_text) and not _OPENING_TAG.search(raw_text):
        return "opened"
    # A repair of the JSON also keeps the text as it came, which then holds no thought.
    return "tags" if reply.thought[:40] in raw_text else "field"


async def _check_choices(prober: Prober) -> tuple[bool | None, bool | None]:
    """Return whether one request may give several replies, and whether they have log probabilities.

    Both are asked for in one call; where it is refused, in two.
    """
    several, logprobs = {"n": 2}, {"logprobs": True}
    both = await _try_fields(prober, several | logprobs)
    if both is not None:
        return both.choices > 1, both.has_logprobs
    with_n, with_logprobs = await _try_fields(prober, several), await _try_fields(prober, logprobs)
    return with_n is not None and with_n.choices > 1, with_logprobs is not None and with_logprobs.has_logprobs


async def _try_fields(prober: Prober, fields: dict) -> Served | None:
    if not prober.may_call:
        return None
    sent = ", ".join(f"{name} {value}" for name, value in fields.items())
    try:
        return await prober.call("several replies, log probabilities", sent, _SHORT_PROMPT, **fields)
    except (TeacherRefused, TryAgain):
        # The evidence has the message.
        return None
