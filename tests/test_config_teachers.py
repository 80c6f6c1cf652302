"""What an operator may write of a teacher, and what is refused before anything starts."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.calls.teacher_endpoints import endpoint
from app.config import (
    PROTOCOLS_WITH_REMOTE_BATCHES,
    BaseModelConfig,
    ConfigurationError,
    FileConfig,
    TeacherConfig,
    protocols,
)
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
        ({"protocol": "callable", "function": "m:f", "stop": ["x"]}, "protocol 'callable' has no stop"),
        (
            {"protocol": "anthropic", "model": "m", "base_url": "http://x", "streams": True},
            "'anthropic' has no streams",
        ),
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


def test_headers_come_from_the_environment_and_are_masked(tmp_path, monkeypatch):
    path = tmp_path / "seedbed.toml"
    path.write_text(
        '[[teachers]]\nname = "azure"\nbase_url = "https://x.openai.azure.com/openai/deployments/d"\nmodel = "m"\n'
        'query = { api-version = "2024-10-21" }\n'
        'extra_headers = { api-key = "env:AZURE_KEY", x-team = "team-canary" }\n'
        "temperature = 1.0\n"
    )
    monkeypatch.setenv("AZURE_KEY", "canary-1122")
    configured = FileConfig.model_validate(tomllib.loads(path.read_text())).teachers[0]
    assert configured.headers() == {"api-key": "canary-1122", "x-team": "team-canary"}
    called = endpoint(configured, "tagged")
    assert called.settings.query == {"api-version": "2024-10-21"} and called.settings.sampling == {"temperature": 1.0}
    assert called.mask("canary-1122 of team-canary") == "*** of ***"
    monkeypatch.delenv("AZURE_KEY")
    with pytest.raises(ConfigurationError, match="teacher 'azure' needs the environment variable AZURE_KEY"):
        configured.headers()


def test_the_secrets_of_the_configuration_include_headers(tmp_path):
    path = tmp_path / "seedbed.toml"
    path.write_text(
        '[[teachers]]\nname = "t"\nbase_url = "http://x"\nmodel = "m"\n'
        'extra_headers = { a = "env:TEAM_KEY", b = "plain-canary" }\nquery = { key = "query-canary" }\n'
    )
    code = "from app import config; print(sorted(config.secrets()))"
    variables = {**os.environ, "SEEDBED_CONFIG": str(path), "TEAM_KEY": "env-canary"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=PROCESS_SECONDS, env=variables
    )
    assert all(f"'{name}-canary'" in done.stdout for name in ("env", "plain", "query")), done.stderr


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
