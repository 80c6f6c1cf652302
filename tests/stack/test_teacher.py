"""The generated configuration: the operator's file, and the simulated teacher where it names none."""

import tomllib

import pytest

from app.config import FileConfig
from app.stack import teacher
from app.stack.state_dir import StackError, StateDir


@pytest.mark.parametrize(
    ("text", "is_added"),
    [
        (None, True),
        ("", True),
        ("[limits]\ntarget = 5\n", True),
        ("teachers = []\n", False),
        ('[[teachers]]\nname = "a"\nbase_url = "http://a"\nmodel = "m"\n', False),
    ],
)
def test_the_simulated_teacher_is_added_only_if_the_file_has_no_teachers(tmp_path, text, is_added):
    config = None
    if text is not None:
        config = tmp_path / "seedbed.toml"
        config.write_text(text)
    assert teacher.names_no_teacher(config) is is_added


def test_the_operators_limits_stay_beside_the_simulated_teacher(tmp_path):
    operator_file = tmp_path / "seedbed.toml"
    operator_file.write_text("[limits]\ntarget = 5")
    path = teacher.write_config(StateDir(tmp_path), operator_file, "http://127.0.0.1:1/v1")
    config = FileConfig.model_validate(tomllib.loads(path.read_text()))
    assert config.limits.target == 5
    assert [(configured.name, configured.base_url) for configured in config.teachers] == [
        ("simulated", "http://127.0.0.1:1/v1")
    ]
    assert config.teachers[0].completion_price > 0


@pytest.mark.parametrize("text", [None, "teachers = ["])
def test_a_configuration_that_cannot_be_read_is_named(tmp_path, text):
    config = tmp_path / "seedbed.toml"
    if text is not None:
        config.write_text(text)
    with pytest.raises(StackError, match=r"seedbed\.toml"):
        teacher.names_no_teacher(config)


def test_the_local_teacher_stands_beside_the_operators_limits(tmp_path):
    config = tmp_path / "seedbed.toml"
    config.write_text("[limits]\ntarget = 5")
    path = teacher.write_local_config(StateDir(tmp_path), config)
    written = FileConfig.model_validate(tomllib.loads(path.read_text()))
    assert written.limits.target == 5
    assert [(t.name, t.protocol, t.replies) for t in written.teachers] == [(teacher.LOCAL_NAME, "local", "tagged")]
