"""Finds out which form of reply a teacher can give, for `seedbed teachers check`."""

import time
from dataclasses import dataclass, field, replace

from pydantic import BaseModel, StrictStr

from app.providers.adapter import FORMS
from app.providers.protocols import adapter_of, open_teacher
from app.providers.teacher import Endpoint, complete, with_thought_allowance
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
    temperature=0.0,
    max_tokens=300,
    template="check",
)


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
    """The attempts at one teacher, in order, and the forms for which its protocol has no request."""

    name: str
    attempts: tuple[FormAttempt, ...] = field(default=())
    impossible_forms: tuple[ReplyForm, ...] = ()

    @property
    def replies(self) -> ReplyForm | None:
        """Return the first form that works, or None."""
        return next((attempt.form for attempt in self.attempts if attempt.works), None)


async def check(endpoint: Endpoint) -> FormCheck:
    """Ask for each form that the protocol has, the strictest first, until one works.

    Each attempt is one small call to the teacher, which may cost money. Errors of the teacher are part of the result.
    """
    attempts: list[FormAttempt] = []
    forms = adapter_of(endpoint).forms
    for form in forms:
        attempt, is_final = await _attempt_form(replace(endpoint, replies=form), form)
        attempts.append(attempt)
        if attempt.works or is_final:
            break
    return FormCheck(endpoint.name, tuple(attempts), tuple(form for form in FORMS if form not in forms))


async def _attempt_form(endpoint: Endpoint, form: ReplyForm) -> tuple[FormAttempt, bool]:
    """Return the attempt, and whether all other forms would fail, too."""
    start_time, teacher = time.monotonic(), open_teacher(endpoint)
    try:
        served = await complete(teacher, with_thought_allowance(_PROMPT, endpoint))
    except TeacherRefused as error:
        attempt = FormAttempt(form, False, str(error), time.monotonic() - start_time)
        return attempt, error.stop_reason in _FINAL_STOP_REASONS
    except TryAgain as error:
        return FormAttempt(form, False, str(error), time.monotonic() - start_time), False
    finally:
        await teacher.close()
    items, faults = read_items(served.reply, "instances", _Example)
    works = bool(items) and not faults
    message = "valid items" if works else f"{len(items)} valid items of 2; it began {served.reply.text[:80]!r}"
    usage = None if served.usage_estimated else served.reply.usage
    return FormAttempt(form, works, message, time.monotonic() - start_time, served.model, usage), False
