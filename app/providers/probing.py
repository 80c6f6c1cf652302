"""Single calls of a check: each is written anew when the teacher refuses a field of it, within a limit of calls."""

import time
from dataclasses import replace

from app.providers.profile import THOUGHT_ALLOWANCE, Evidence
from app.providers.protocols import open_teacher
from app.providers.refused_fields import without_refused_field
from app.providers.teacher import Endpoint, Served, complete, with_thought_allowance
from app.synth.teacher_errors import TeacherRefused, TryAgain
from app.synth.types import Prompt

MAX_CALLS = 8
_SHOWN_CHARACTERS = 160


class Prober:
    """Makes the calls of one check, and keeps what they showed.

    `endpoint` has the settings by which the teacher takes requests, as far as the calls so far have shown.
    """

    def __init__(self, endpoint: Endpoint):
        self.endpoint = endpoint
        self.evidence: list[Evidence] = []
        self._request: dict = {}

    @property
    def may_call(self) -> bool:
        """Whether the limit of calls allows one more."""
        return len(self.evidence) < MAX_CALLS

    async def call(self, question: str, sent: str, prompt: Prompt, **fields: object) -> Served:
        """Make a call, and make it again without what the teacher refuses, or with tokens for a thought that was cut.

        Args:
            question: What the call is to find out.
            sent: What is special about the request.
            prompt: The prompt.
            fields: Further fields of the request body.

        Raises:
            TeacherRefused: The teacher refuses the request for another reason, or no further call is allowed.
            TryAgain: The call failed.
        """
        while True:
            start_time = time.monotonic()
            try:
                served = await self._call_once(prompt, fields)
            except (TeacherRefused, TryAgain) as error:
                self._record(question, sent, str(error), start_time)
                changed = None if fields else self._without_refused_field(error)
                if changed is None or not self.may_call:
                    raise
                sent = changed
                continue
            self._record(question, sent, _describe_reply(served), start_time)
            is_cut = served.reply.finish_reason == "length" and not self.endpoint.thought_tokens
            if not is_cut or fields or not self.may_call:
                return served
            self.endpoint = replace(self.endpoint, thought_tokens=THOUGHT_ALLOWANCE)
            sent = f"{THOUGHT_ALLOWANCE} more tokens, since the reply was cut"

    async def _call_once(self, prompt: Prompt, fields: dict) -> Served:
        settings = self.endpoint.settings
        probe = replace(self.endpoint, settings=replace(settings, extra_body={**settings.extra_body, **fields}))
        teacher = open_teacher(probe)
        prompt = with_thought_allowance(prompt, probe)
        self._request = teacher.request(prompt)
        try:
            return await complete(teacher, prompt)
        finally:
            await teacher.close()

    def _without_refused_field(self, error: TeacherRefused | TryAgain) -> str | None:
        if not isinstance(error, TeacherRefused):
            return None
        change = without_refused_field(self.endpoint.settings, error, self._request)
        if change is None:
            return None
        settings, text = change
        self.endpoint = replace(self.endpoint, settings=settings)
        return text

    def _record(self, question: str, sent: str, received: str, start_time: float) -> None:
        seconds = round(time.monotonic() - start_time, 2)
        self.evidence.append(Evidence(question, sent, received[:_SHOWN_CHARACTERS], seconds))


def _describe_reply(served: Served) -> str:
    usage = served.reply.usage
    tokens = "usage estimated" if served.usage_estimated else f"{usage.prompt} + {usage.completion} tokens"
    return f"{served.reply.finish_reason}, {tokens}: {served.reply.text}"
