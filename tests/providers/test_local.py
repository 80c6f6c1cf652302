"""Models in this process: the conformance suite on models whose weights are set by hand, and what only they do."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from app.providers.adapters.local.engine import engine_of
from app.providers.adapters.local.model import gguf_file, without_system
from app.providers.checking import check
from app.providers.protocols import adapter_of
from app.providers.teacher import Endpoint, LocalModel, Served, Teacher
from app.synth.teacher_errors import TeacherRefused, TryAgain
from app.synth.types import Prompt, Usage
from tests.providers.bigram_model import END, WORD, save_model, save_model_that_chooses, save_model_that_writes
from tests.providers.conformance import PROMPT, Answer, Behaviour, ReplyConformance, Silence, make_endpoint, use
from tests.waiting import HTTP_SECONDS, PROCESS_SECONDS

COLOURS = ("red", "green", "blue", "black", "white", "grey", "pink", "brown")
MANY_TOKENS = 10**7


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def chooses(folders) -> Endpoint:
    """A model that writes colours in any order and never ends."""
    return local_endpoint(save_model_that_chooses(folders / "chooses", COLOURS, context_tokens=2 * MANY_TOKENS))


def local_endpoint(folder: Path, **settings) -> Endpoint:
    settings = {"protocol": "local", "timeout_seconds": HTTP_SECONDS} | settings
    return make_endpoint(local_model=LocalModel("path", str(folder)), **settings)


def complete(endpoint: Endpoint, prompt: Prompt = PROMPT) -> Served:
    return use(endpoint, lambda teacher: teacher.complete(prompt))


@contextmanager
def busy(endpoint: Endpoint) -> Iterator[threading.Event]:
    """Keep the thread of the model from answering, until the event is set or the block ends."""
    engine, started, over = engine_of(endpoint.local_model), threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        over.wait(PROCESS_SECONDS)

    engine.load().result(PROCESS_SECONDS)
    engine.run(hold)
    assert started.wait(PROCESS_SECONDS)
    try:
        yield over
    finally:
        over.set()


class TestConformance(ReplyConformance):
    tells_cached = False

    @pytest.fixture(autouse=True)
    def _folder(self, folders):
        self.folders = folders

    @contextmanager
    def playing(self, behaviour: Behaviour):
        match behaviour:
            case Answer(text, finish_reason, _, usage):
                yield local_endpoint(self.model_that_writes(text, usage.completion, finish_reason == "stop"))
            case Silence():
                endpoint = local_endpoint(self.model_that_writes("late", 5, True))
                with busy(endpoint):
                    yield endpoint

    def model_that_writes(self, text: str, tokens: int, ends: bool) -> Path:
        folder = self.folders / f"writes-{text.encode().hex()}-{tokens}-{ends}"
        return folder if folder.exists() else save_model_that_writes(folder, text, tokens, ends)


def test_its_forms_of_reply_need_no_schema(chooses):
    assert adapter_of(chooses).forms == ("json_object", "tagged")
    result = asyncio.run(check(replace(chooses, timeout_seconds=HTTP_SECONDS)))
    assert (result.replies, result.impossible_forms) == (None, ("json_schema",))


def test_a_seed_gives_the_same_text_and_another_seed_another(chooses):
    texts = [complete(chooses, replace(PROMPT, seed=seed)).reply.text for seed in (3, 3, 4)]
    assert texts[0] == texts[1] != texts[2]
    assert set(texts[0].split()) <= set(COLOURS)
    without_seed = {complete(chooses, replace(PROMPT, seed=None)).reply.text for _ in range(3)}
    assert len(without_seed) == 3


def test_calls_of_one_batch_do_not_change_each_other(chooses):
    prompts = [replace(PROMPT, seed=seed, max_tokens=10 + seed, user="word " * seed) for seed in range(1, 6)]

    async def call_all(teacher: Teacher) -> list[Served]:
        return await asyncio.gather(*(teacher.complete(prompt) for prompt in prompts))

    alone = [complete(chooses, prompt).reply for prompt in prompts]
    together = [served.reply for served in use(replace(chooses, in_flight=8), call_all)]
    assert together == alone
    assert [reply.usage.completion for reply in alone] == [11, 12, 13, 14, 15]


def test_temperature_and_top_p_shape_the_choice(folders):
    # One of three words, and then the end.
    folder = save_model(folders / "top_p", {WORD: ["b", "c", "d"], "b": [END], "c": [END], "d": [END]})
    endpoint = local_endpoint(folder)

    def texts(**settings) -> set[str]:
        return {complete(endpoint, replace(PROMPT, seed=seed, **settings)).reply.text for seed in range(12)}

    assert texts(temperature=1.0, top_p=None) == {"b", "c", "d"}
    assert len(texts(temperature=1.0, top_p=0.5)) == 2
    assert len(texts(temperature=1.0, top_p=0.01)) == 1
    assert len(texts(temperature=0.0, top_p=None)) == 1


@pytest.mark.parametrize("end", ["cancel", "timeout"])
def test_a_call_that_is_given_up_stops_the_model(chooses, end):
    endless = replace(PROMPT, max_tokens=MANY_TOKENS)

    async def give_up(teacher: Teacher) -> str:
        call = asyncio.create_task(teacher.complete(endless))
        await asyncio.wait([call], timeout=0.3)
        if end == "cancel":
            call.cancel()
        result = (await asyncio.gather(call, return_exceptions=True))[0]
        return type(result).__name__

    expected = {"cancel": "CancelledError", "timeout": TryAgain.__name__}[end]
    complete(chooses)
    limit = 1.0 if end == "timeout" else HTTP_SECONDS
    assert use(replace(chooses, timeout_seconds=limit), give_up) == expected
    # The thread of the model is free, long before the tokens of the call were written.
    assert complete(chooses).reply.text


def test_a_call_that_is_cancelled_before_its_turn_is_never_made(chooses):
    async def call_and_cancel(teacher: Teacher) -> None:
        with busy(chooses):
            call = asyncio.create_task(teacher.complete(replace(PROMPT, max_tokens=MANY_TOKENS)))
            await asyncio.wait([call], timeout=0.1)
            call.cancel()
            await asyncio.wait([call])
        assert (await teacher.complete(PROMPT)).reply.text

    use(chooses, call_and_cancel)


def test_a_prompt_longer_than_the_context_costs_one_row(folders):
    endpoint = local_endpoint(save_model_that_chooses(folders / "short", COLOURS, context_tokens=16))
    reply = complete(endpoint, replace(PROMPT, user="word " * 20)).reply
    assert (reply.finish_reason, reply.usage) == ("context_length", Usage())
    assert reply.text == "the prompt has 29 tokens, and the model reads 16"
    # What is left of the context bounds the reply.
    reply = complete(endpoint).reply
    assert (reply.finish_reason, reply.usage) == ("length", Usage(10, 0, 6))


def test_a_model_without_a_chat_template_gets_plain_turns(folders):
    followers = {WORD: ["fine"], "fine": ["\nUser:"], "\nUser:": ["more"], "more": ["more"]}
    endpoint = local_endpoint(save_model(folders / "plain", followers, template=None))
    reply = complete(endpoint).reply
    # The text ends where the model went on with a turn of the user.
    assert (reply.text, reply.finish_reason, reply.usage.prompt) == ("fine", "stop", 9)


def test_a_template_that_refuses_a_system_message_gets_it_in_the_first_turn(folders):
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    template = refuses + "{% for m in messages %}{{ m.content }} {% endfor %}:"
    endpoint = local_endpoint(save_model(folders / "no-system", {WORD: ["fine"], "fine": [END]}, template=template))
    reply = complete(endpoint).reply
    assert (reply.text, reply.usage.prompt) == ("fine", 5)
    assert without_system(PROMPT.messages())[0] == {"role": "user", "content": "s\n\nearlier"}


def test_a_model_is_loaded_once_for_all_teachers(chooses):
    engine = engine_of(chooses.local_model)
    complete(chooses)
    assert engine_of(LocalModel("path", chooses.local_model.source)) is engine
    assert engine.load() is engine.load()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (LocalModel("path", "/no/such/folder"), "can't be loaded"),
        (LocalModel("gguf", "/no/such/file.gguf"), "there is no file /no/such/file.gguf"),
        (LocalModel("gguf", "package:no_such_package/file.gguf"), "the package 'no_such_package'"),
        (LocalModel("gguf", "package:torch/file.gguf"), "there is no file"),
    ],
)
def test_a_model_that_is_not_there_is_refused_with_its_name(model, message):
    with pytest.raises(TeacherRefused, match=message) as error_info:
        complete(make_endpoint(protocol="local", local_model=model))
    assert error_info.value.stop_reason == "model_unknown"


def test_a_failed_load_is_tried_again(folders):
    endpoint = local_endpoint(folders / "later")
    with pytest.raises(TeacherRefused):
        complete(endpoint)
    save_model_that_writes(folders / "later", "here")
    assert complete(endpoint).reply.text == "here"


def test_a_file_of_a_package_is_found_without_importing_it():
    path = gguf_file("package:tests/waiting.py")
    assert path == Path(__file__).parent.parent / "waiting.py"


def test_a_call_whose_loop_has_ended_does_no_harm(chooses):
    async def abandon_a_call(teacher: Teacher) -> None:
        call = asyncio.create_task(teacher.complete(replace(PROMPT, max_tokens=MANY_TOKENS)))
        await asyncio.wait([call], timeout=0.2)

    # `asyncio.run` cancels what is left.
    use(chooses, abandon_a_call)
    assert complete(chooses).reply.text
