"""A Python function as a teacher: the conformance suite on each kind of function, and what only functions do."""

import asyncio
import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest

from app.providers.checking import check
from app.providers.protocols import open_remote_batches
from app.providers.teacher import Endpoint, Teacher
from app.synth.teacher_errors import TeacherRefused, TryAgain
from app.synth.types import Reply, Usage
from tests.providers import teacher_functions
from tests.providers.conformance import (
    PROMPT,
    Answer,
    Behaviour,
    BrokenConnection,
    Failure,
    Garbage,
    Silence,
    TeacherConformance,
    make_endpoint,
    use,
)
from tests.waiting import HTTP_SECONDS, PROCESS_SECONDS

GARBAGE = {"a number": 7, "bytes": b"text", "a dict": {"text": "x"}, "a reply of bytes": Reply(b"text")}


class HttpError(Exception):
    """An error of a client of one's own, with the attributes that clients usually have."""

    def __init__(self, status: int, code: str, headers: dict[str, str]):
        super().__init__("a message")
        self.status_code, self.code, self.headers = status, code, headers


def play(behaviour: Behaviour, over: threading.Event) -> object:
    match behaviour:
        case Answer(text, finish_reason, refusal, usage):
            return Reply(text, finish_reason, refusal, usage or Usage())
        case Failure(status, code, headers):
            raise HttpError(status, code, headers)
        case Garbage(kind):
            return GARBAGE[kind]
        case BrokenConnection():
            raise ConnectionResetError("reset by peer")
        case Silence():
            return over
    raise AssertionError(behaviour)


def blocking(answer: object) -> object:
    if isinstance(answer, threading.Event):
        answer.wait(PROCESS_SECONDS)
    return answer


def function_endpoint(name: str, **settings) -> Endpoint:
    settings = {"timeout_seconds": HTTP_SECONDS, "protocol": "callable"} | settings
    return make_endpoint(function=f"{teacher_functions.__name__}:{name}", **settings)


@contextmanager
def behaving(behave):
    teacher_functions.behave.append(behave)
    try:
        yield
    finally:
        teacher_functions.behave.pop()


class Conformance(TeacherConformance):
    garbage = tuple(GARBAGE)
    function = "plain"

    @contextmanager
    def playing(self, behaviour: Behaviour):
        over = threading.Event()

        def behave(messages):
            answer = play(behaviour, over)
            return blocking(answer) if self.function == "plain" else answer

        with behaving(behave):
            try:
                yield function_endpoint(self.function)
            finally:
                over.set()


class TestPlainFunction(Conformance):
    pass


class TestAsyncFunction(Conformance):
    function = "asynchronous"


class TestObjectWithAsyncCall(Conformance):
    function = "an_object"


def complete(endpoint: Endpoint):
    return use(endpoint, lambda teacher: teacher.complete(PROMPT))


def test_a_text_is_a_reply_and_the_function_sees_the_messages():
    assert complete(function_endpoint("echo")).reply.text == PROMPT.user
    with behaving(lambda messages: None):
        assert complete(function_endpoint("plain")).reply.text == ""


@pytest.mark.parametrize(
    "error", [StopIteration(), SystemExit(1), asyncio.CancelledError(), RecursionError("deep"), KeyError("choices")]
)
@pytest.mark.parametrize("function", ["plain", "asynchronous"])
def test_whatever_a_function_raises_may_be_tried_again(function, error):
    def fail(messages):
        raise error

    with behaving(fail), pytest.raises(TryAgain) as error_info:
        complete(function_endpoint(function))
    assert error_info.value.paid is None


@pytest.mark.parametrize("error", [TeacherRefused("quota_exhausted", "none left"), TryAgain("later", after=3)])
def test_a_function_may_say_itself_what_its_failure_means(error):
    def fail(messages):
        raise error

    with behaving(fail), pytest.raises(type(error)) as error_info:
        complete(function_endpoint("plain"))
    assert error_info.value is error


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("no_such_module_here:f", "No module named 'no_such_module_here'"),
        (f"{teacher_functions.__name__}:missing", "has no attribute 'missing'"),
        (f"{teacher_functions.__name__}:NOT_A_FUNCTION", "no function but of type str"),
    ],
)
def test_a_function_that_is_not_there_is_refused_by_its_name(function, message):
    with pytest.raises(TeacherRefused) as error_info:
        complete(replace(function_endpoint("echo"), function=function))
    assert error_info.value.stop_reason == "model_unknown"
    assert function in str(error_info.value) and message in str(error_info.value)


def test_threads_that_hang_keep_their_places_and_give_them_back():
    over, calls = threading.Event(), []

    def hang(messages):
        calls.append(1)
        over.wait(PROCESS_SECONDS)
        return "late"

    async def call(teacher: Teacher) -> tuple[list, str]:
        errors = await asyncio.gather(*(teacher.complete(PROMPT) for _ in range(3)), return_exceptions=True)
        started = len(calls)
        over.set()
        return errors, started, (await teacher.complete(PROMPT)).reply.text

    with behaving(hang):
        errors, started, text = use(function_endpoint("plain", in_flight=2, timeout_seconds=0.4), call)
    assert (started, text) == (2, "late")
    # The third was never called, so nothing can have been paid for it.
    assert sorted(str(error.paid) for error in errors) == ["False", "None", "None"]


def test_a_check_asks_only_for_the_forms_that_a_function_can_give():
    result = asyncio.run(check(function_endpoint("json_reply")))
    assert (result.replies, result.impossible_forms) == ("json_object", ("json_schema",))
    result = asyncio.run(check(function_endpoint("echo")))
    assert (result.replies, [attempt.form for attempt in result.attempts]) == (None, ["json_object", "tagged"])


def test_a_function_has_no_remote_batches():
    with pytest.raises(TeacherRefused, match=r'no remote batches.*"mode": "direct"'):
        open_remote_batches(function_endpoint("echo"))
