"""What an operator may write of a teacher, and what is refused before anything starts."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.config import PROTOCOLS_WITH_REMOTE_BATCHES, BaseModelConfig, FileConfig, TeacherConfig, protocols
from app.providers.protocols import adapter_of
from tests.providers.conformance import make_endpoint
from tests.waiting import PROCESS_SECONDS

ROOT = Path(__file__).parent.parent


def test_a_teacher_is_an_address_or_a_function():
    hosted = TeacherConfig(name="t", base_url="https://x/v1/", model="m")
    assert (hosted.protocol, hosted.address, hosted.has_remote_batches) == ("openai", "https://x/v1", True)
    own = TeacherConfig(name="t", protocol="callable", function="my.module:teacher")
    assert (own.model, own.address, own.has_remote_batches) == ("my.module:teacher", "my.module:teacher", False)
    assert TeacherConfig(name="t", protocol="callable", function="m:f", model="mine").model == "mine"


def test_a_teacher_may_be_a_base_model():
    model = {"name": "small", "gguf": "package:some_package/small.gguf"}
    local = {"name": "t", "protocol": "local", "model": "small"}
    (teacher,) = FileConfig(base_models=[model], teachers=[local]).teachers
    assert (teacher.address, teacher.has_remote_batches) == ("local", False)
    # A model in the worker is slow, and computes few calls at once.
    assert (teacher.in_flight, teacher.timeout_seconds) == (4, 900)
    assert TeacherConfig(**local, in_flight=2).in_flight == 2
    assert not BaseModelConfig(**model).is_trainable and BaseModelConfig(name="m", path="/m").is_trainable


@pytest.mark.parametrize(
    ("models", "name", "message"),
    [
        ([], "small", r"the teacher 't' needs a \[\[base_models\]\] named 'small' with path, hub or gguf"),
        ([{"name": "small"}], "small", "with path, hub or gguf"),
        ([], "tiny", "can't be the base model 'tiny', which each fine-tune makes anew"),
        ([{"name": "small", "gguf": "/a.gguf", "path": "/a"}], "small", "has no path, hub or revision"),
    ],
)
def test_a_local_teacher_needs_a_model_that_can_be_loaded(models, name, message):
    with pytest.raises(ValidationError, match=message):
        FileConfig(base_models=models, teachers=[{"name": "t", "protocol": "local", "model": name}])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "m"}, "a teacher of the protocol 'openai' needs base_url"),
        ({"model": "m", "base_url": "x/v1"}, "must start with http:// or https://"),
        ({"base_url": "http://x/v1"}, "Field required"),
        (
            {"model": "m", "base_url": "http://x", "function": "m:f"},
            "protocol 'openai' has no function",
        ),
        ({"protocol": "callable", "model": "m"}, "a teacher of the protocol 'callable' needs function"),
        ({"protocol": "callable", "function": "m:f", "base_url": "http://x"}, "protocol 'callable' has no base_url"),
        ({"protocol": "anthropic", "model": "m"}, "a teacher of the protocol 'anthropic' needs base_url"),
        ({"protocol": "local", "model": "m", "base_url": "http://x"}, "protocol 'local' has no base_url"),
        ({"protocol": "local", "model": "m", "function": "m:f"}, "protocol 'local' has no function"),
        ({"protocol": "local", "model": "m", "api_key_env": "KEY"}, "protocol 'local' has no api_key_env"),
        ({"protocol": "local", "model": "m", "replies": "json_schema"}, "set replies to json_object or tagged"),
        ({"protocol": "callable", "function": "m.f"}, "must be written as module:function"),
        (
            {"protocol": "telepathy", "model": "m", "base_url": "http://x"},
            "no protocol 'telepathy'; there are",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        TeacherConfig(name="t", **settings)


def test_the_configuration_knows_each_adapter_and_whether_it_has_remote_batches():
    adapters = {name: adapter_of(make_endpoint(protocol=name)) for name in protocols()}
    assert {"anthropic", "callable", "local", "openai"} <= set(adapters)
    assert {name for name, one in adapters.items() if one.open_remote_batches} == PROTOCOLS_WITH_REMOTE_BATCHES


def test_reading_the_configuration_loads_no_client():
    code = (
        "import sys; from app.config import TeacherConfig; TeacherConfig(name='t', base_url='http://x', model='m'); "
        "print([name for name in ('openai', 'httpx2', 'app.providers') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=PROCESS_SECONDS
    )
    assert done.stdout.strip() == "[]", done.stderr
