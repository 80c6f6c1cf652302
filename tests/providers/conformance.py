"""What every adapter of a teacher's protocol must do. The tests of an adapter are a subclass of `TeacherConformance`.

The adapter of a model in this process has those of `ReplyConformance`, since no status, garbage or connection is there.

A subclass plays each behaviour below in its own protocol: an HTTP server that answers so, a function that returns or
raises so.
"""

import asyncio
import inspect
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import pytest

from app.providers.protocols import adapter_of, open_teacher
from app.providers.teacher import Endpoint, Served, Teacher
from app.synth.prices import Prices, estimate
from app.synth.teacher_errors import TeacherRefused, TryAgain
from app.synth.types import Prompt, Usage
from tests.waiting import HTTP_SECONDS, PROCESS_SECONDS

Result = TypeVar("Result")
ROOT = Path(__file__).parent.parent.parent
SCHEMA = {
    "title": "answer",
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}
PROMPT = Prompt(
    step="instructions",
    position="p",
    system="s",
    user="u",
    schema=None,
    temperature=0.5,
    max_tokens=50,
    template="t",
    seed=3,
    top_p=0.9,
    turns=(("user", "earlier"), ("assistant", "later")),
)
# Each of these fields shapes the answer, so each must change the request, unless the protocol has no field for it.
OTHER_PROMPTS = {
    "system": "other",
    "user": "other",
    "schema": SCHEMA,
    "temperature": 0.6,
    "max_tokens": 51,
    "seed": 4,
    "top_p": 0.8,
    "turns": (("user", "other"), ("assistant", "later")),
}
USAGE = Usage(10, 4, 5)


@dataclass(frozen=True)
class Answer:
    """The teacher answers. `usage`: None gives none; `model` is named by the answer where the protocol can."""

    text: str = "hello"
    finish_reason: str = "stop"
    refusal: str | None = None
    usage: Usage | None = USAGE


@dataclass(frozen=True)
class Failure:
    """The teacher answers with an HTTP status that is no success, or with its like."""

    status: int
    code: str = "x"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Silence:
    """The teacher takes the request, and does not answer until the test is over."""


@dataclass(frozen=True)
class BrokenConnection:
    """The connection breaks after the request was sent."""


@dataclass(frozen=True)
class Garbage:
    """The teacher answers with something that is no answer of its protocol. `kind`: one of the adapter's."""

    kind: str


Behaviour = Answer | Failure | Silence | BrokenConnection | Garbage


class ReplyConformance:
    """What every teacher must do, also one that no network can fail.

    Subclasses say how a behaviour is played.
    """

    # Whether the protocol has a field for the part of a prompt that was cached.
    tells_cached: bool = True
    # The fields of OTHER_PROMPTS for which the protocol has no field, beside those that the prompt also has.
    fields_without_effect: frozenset[str] = frozenset()

    def playing(self, behaviour: Behaviour) -> AbstractContextManager[Endpoint]:
        """Give an endpoint behind which the teacher behaves so at each call."""
        raise NotImplementedError

    def call(self, behaviour: Behaviour, prompt: Prompt = PROMPT, **changes) -> Served:
        with self.playing(behaviour) as endpoint:
            return use(replace(endpoint, **changes), lambda teacher: teacher.complete(prompt))

    def failure(self, behaviour: Behaviour, **changes) -> TryAgain | TeacherRefused:
        with pytest.raises((TryAgain, TeacherRefused)) as error_info:
            self.call(behaviour, **changes)
        return error_info.value

    def test_it_has_what_the_protocol_demands(self):
        with self.playing(Answer()) as endpoint:
            teacher = asyncio.run(opened(endpoint))
            assert teacher.endpoint == endpoint
            assert adapter_of(endpoint).forms
        for name, member in inspect.getmembers(Teacher, inspect.isfunction):
            if not name.startswith("_"):
                ours = getattr(type(teacher), name)
                assert list(inspect.signature(ours).parameters) == list(inspect.signature(member).parameters)
                assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(member)

    def test_a_plain_reply(self):
        served = self.call(Answer("hello\n안녕"))
        assert (served.reply.text, served.reply.finish_reason, served.reply.refusal) == ("hello\n안녕", "stop", None)
        assert served.model and not served.reply.simulated

    @pytest.mark.parametrize("replies", ["json_schema", "json_object", "tagged"])
    def test_a_reply_to_a_schema_comes_back_as_it_was_written(self, replies):
        text = json.dumps({"a": "b"})
        served = self.call(Answer(text), replace(PROMPT, schema=SCHEMA), replies=replies)
        assert served.reply.text == text

    def test_usage_is_believed(self):
        served = self.call(Answer())
        usage = USAGE if self.tells_cached else replace(USAGE, cached=0)
        assert (served.reply.usage, served.usage_estimated) == (usage, False)

    def test_a_reply_that_was_cut(self):
        served = self.call(Answer("hel", "length"))
        assert (served.reply.text, served.reply.finish_reason) == ("hel", "length")

    def test_an_empty_reply(self):
        served = self.call(Answer(""))
        assert (served.reply.text, served.reply.finish_reason) == ("", "stop")

    def test_silence_is_given_up_and_may_have_been_paid(self):
        error = self.failure(Silence(), timeout_seconds=0.3)
        assert isinstance(error, TryAgain)
        assert (error.timeout, error.throttled, error.paid) == (True, False, None)

    def test_a_call_that_is_cancelled_in_flight_ends_as_cancelled(self):
        async def cancel(teacher: Teacher) -> bool:
            call = asyncio.create_task(teacher.complete(PROMPT))
            await asyncio.wait([call], timeout=0.2)
            call.cancel()
            await asyncio.wait([call], timeout=HTTP_SECONDS)
            return call.cancelled()

        with self.playing(Silence()) as endpoint:
            assert use(endpoint, cancel)

    def test_calls_go_on_beside_each_other(self):
        async def call_many(teacher: Teacher) -> list[Served]:
            return await asyncio.gather(*(teacher.complete(PROMPT) for _ in range(8)))

        with self.playing(Answer()) as endpoint:
            assert [served.reply.text for served in use(endpoint, call_many)] == ["hello"] * 8

    def test_closing_twice_does_nothing(self):
        async def close(teacher: Teacher) -> None:
            await teacher.complete(PROMPT)
            await teacher.close()
            await teacher.close()

        with self.playing(Answer()) as endpoint:
            use(endpoint, close)

    def test_a_request_holds_all_that_shapes_the_answer(self):
        with self.playing(Answer()) as endpoint:
            whole = request_of(endpoint, PROMPT)
            for name, value in OTHER_PROMPTS.items():
                is_equal = request_of(endpoint, replace(PROMPT, **{name: value})) == whole
                assert is_equal == (name in self.fields_without_effect), name
            assert request_of(replace(endpoint, model="other"), PROMPT) != whole
            with_schema = replace(PROMPT, schema=SCHEMA)
            as_json, as_tags = (
                request_of(replace(endpoint, replies=form), with_schema) for form in ("json_schema", "tagged")
            )
            assert as_json != as_tags

    def test_a_request_holds_no_place_and_no_key(self):
        with self.playing(Answer()) as endpoint:
            elsewhere = replace(PROMPT, position="q", step="other")
            assert request_of(endpoint, elsewhere) == request_of(endpoint, PROMPT)
            assert "secret-key" not in request_of(replace(endpoint, api_key="secret-key"), PROMPT)

    def test_a_request_is_the_same_in_every_process(self):
        with self.playing(Answer()) as endpoint:
            here = request_of(endpoint, replace(PROMPT, schema=SCHEMA))
        code = (
            "from dataclasses import replace; from decimal import Decimal; "
            "from app.providers.teacher import Endpoint, LocalModel; "
            "from app.providers.request_settings import RequestSettings; from app.synth.prices import Prices; "
            "from tests.providers.conformance import PROMPT, SCHEMA, request_of; "
            f"print(request_of({endpoint!r}, replace(PROMPT, schema=SCHEMA)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=PROCESS_SECONDS
        )
        assert done.stdout.strip() == here, done.stderr


class TeacherConformance(ReplyConformance):
    """What a teacher must do that others run: a server, or a function of the operator.

    Subclasses say which garbage their protocol knows, and what it has no field for.
    """

    garbage: tuple[str, ...] = ()
    # Whether the protocol has a field for a refusal.
    tells_refusals: bool = True

    @pytest.mark.parametrize("usage", [None, Usage(-1, 0, 2), Usage(5, 0, -2)])
    def test_usage_that_is_missing_or_wrong_is_estimated(self, usage):
        served = self.call(Answer("x" * 400, usage=usage))
        assert (served.reply.usage, served.usage_estimated) == (estimate(PROMPT.messages(), "x" * 400), True)

    def test_half_a_character_without_usage_is_served(self):
        served = self.call(Answer("a\ud83d", usage=None))
        assert served.usage_estimated and served.reply.text.startswith("a")

    def test_a_refusal(self):
        served = self.call(Answer("", refusal="I won't"))
        assert (served.reply.refusal, served.reply.text) == ("I won't" if self.tells_refusals else None, "")

    def test_a_filter_is_told(self):
        assert self.call(Answer("", "content_filter")).reply.finish_reason == "content_filter"

    def test_garbage_is_served_as_unreadable_at_an_estimated_cost(self):
        assert self.garbage
        for kind in self.garbage:
            served = self.call(Garbage(kind))
            assert served.reply.finish_reason == "unreadable" and served.usage_estimated, kind
            assert served.reply.usage.prompt > 0 and served.reply.text, kind

    def test_a_prompt_that_is_too_long_costs_one_row(self):
        served = self.call(Failure(400, "context_length_exceeded"))
        assert (served.reply.finish_reason, served.reply.usage) == ("context_length", Usage())
        assert not served.usage_estimated

    @pytest.mark.parametrize(
        ("status", "code", "stop_reason"),
        [
            (401, "invalid_api_key", "credentials_refused"),
            (403, "forbidden", "credentials_refused"),
            (402, "payment", "quota_exhausted"),
            (429, "insufficient_quota", "quota_exhausted"),
            (404, "model_not_found", "model_unknown"),
            (400, "bad_schema", "request_refused"),
        ],
    )
    def test_what_ends_a_run(self, status, code, stop_reason):
        error = self.failure(Failure(status, code))
        assert isinstance(error, TeacherRefused) and error.stop_reason == stop_reason
        assert "a message" in str(error)

    @pytest.mark.parametrize(
        ("status", "headers", "after", "throttled"),
        [
            (429, {"retry-after": "2"}, 2.0, True),
            (429, {"retry-after-ms": "150", "retry-after": "9"}, 0.15, True),
            (429, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None, True),
            (429, {"retry-after": "99999"}, 120.0, True),
            (500, {}, None, False),
            (502, {}, None, False),
            (503, {}, None, True),
            (408, {}, None, False),
        ],
    )
    def test_what_is_tried_again(self, status, headers, after, throttled):
        error = self.failure(Failure(status, "rate_limit_exceeded" if throttled else "", headers))
        assert isinstance(error, TryAgain)
        assert (error.after, error.throttled, error.timeout, error.paid) == (after, throttled, False, False)

    def test_a_connection_that_breaks_may_have_been_paid(self):
        error = self.failure(BrokenConnection())
        assert isinstance(error, TryAgain)
        assert (error.timeout, error.throttled, error.paid) == (False, False, None)


def make_endpoint(**settings) -> Endpoint:
    return Endpoint(
        **{"name": "t", "base_url": "", "model": "m", "api_key": "key", "prices": Prices(0, 0, 0)} | settings
    )


async def opened(endpoint: Endpoint) -> Teacher:
    teacher = open_teacher(endpoint)
    await teacher.close()
    return teacher


def use(endpoint: Endpoint, work: Callable[[Teacher], Awaitable[Result]]) -> Result:
    """Open the teacher in an event loop, do the work, close it."""

    async def run():
        teacher = open_teacher(endpoint)
        try:
            return await work(teacher)
        finally:
            await teacher.close()

    return asyncio.run(run())


def request_of(endpoint: Endpoint, prompt: Prompt) -> str:
    """The request as canonical JSON, as the ledger keys it."""

    async def ask(teacher: Teacher) -> dict:
        return teacher.request(prompt)

    return json.dumps(use(endpoint, ask), sort_keys=True)
