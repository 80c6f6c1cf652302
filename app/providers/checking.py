"""Which form of reply a teacher can give: asked once, by `seedbed teachers check`."""

import time
from dataclasses import dataclass, field, replace

from pydantic import BaseModel, StrictStr

from app.providers.teacher import Endpoint, Teacher, TeacherRefused, TryAgain
from app.synth.prompting import TEXT, item_schema, list_schema
from app.synth.replies import read_items
from app.synth.reply_forms import ReplyForm
from app.synth.types import Prompt, Usage

FORMS: tuple[ReplyForm, ...] = ("json_schema", "json_object", "tagged")
# What no form of reply would change: the other forms need not be tried.
_HOPELESS = ("credentials_refused", "quota_exhausted", "model_unknown")


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
class Try:
    """One form that was asked for: whether it came, and in words what came instead."""

    form: ReplyForm
    works: bool
    words: str
    seconds: float
    model: str = ""
    usage: Usage | None = None


@dataclass(frozen=True)
class Check:
    """What was tried, in order; `replies` is the first form that works, None when none does."""

    name: str
    tries: tuple[Try, ...] = field(default=())

    @property
    def replies(self) -> ReplyForm | None:
        return next((one.form for one in self.tries if one.works), None)


async def check(endpoint: Endpoint) -> Check:
    """Ask for each form, the strictest first, until one works. One small call each."""
    tries: list[Try] = []
    for form in FORMS:
        found, hopeless = await _try(replace(endpoint, replies=form), form)
        tries.append(found)
        if found.works or hopeless:
            break
    return Check(endpoint.name, tuple(tries))


async def _try(endpoint: Endpoint, form: ReplyForm) -> tuple[Try, bool]:
    """The outcome; and whether another form would be asked for in vain."""
    started, teacher = time.monotonic(), Teacher(endpoint)
    try:
        served = await teacher.complete(_PROMPT)
    except TeacherRefused as error:
        return Try(form, False, str(error), time.monotonic() - started), error.stop_reason in _HOPELESS
    except TryAgain as error:
        return Try(form, False, str(error), time.monotonic() - started), False
    finally:
        await teacher.close()
    items, faults = read_items(served.reply, "instances", _Example)
    works = bool(items) and not faults
    words = "valid items" if works else f"{len(items)} valid items of 2; it began {served.reply.text[:80]!r}"
    usage = None if served.usage_estimated else served.reply.usage
    return Try(form, works, words, time.monotonic() - started, served.model, usage), False
