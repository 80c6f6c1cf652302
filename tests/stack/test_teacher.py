"""The generated configuration: the operator's file, and the simulated teacher where it names none."""

import tomllib

import pytest

from app.config import FileConfig
from app.stack import teacher
from app.stack.home import Home, StackError


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (None, True),
        ("", True),
        ("[limits]\ntarget = 5\n", True),
        ("teachers = []\n", False),
        ('[[teachers]]\nname = "a"\nbase_url = "http://a"\nmodel = "m"\n', False),
    ],
)
def test_the_simulated_teacher_is_wanted_only_where_no_teacher_is_named(tmp_path, text, wanted):
    config = None
    if text is not None:
        config = tmp_path / "seedbed.toml"
        config.write_text(text)
    assert teacher.names_no_teacher(config) is wanted


def test_the_operators_limits_stay_beside_the_simulated_teacher(tmp_path):
    theirs = tmp_path / "seedbed.toml"
    theirs.write_text("[limits]\ntarget = 5")
    made = teacher.write_config(Home(tmp_path), theirs, "http://127.0.0.1:1/v1")
    config = FileConfig.model_validate(tomllib.loads(made.read_text()))
    assert config.limits.target == 5
    assert [(one.name, one.base_url) for one in config.teachers] == [("simulated", "http://127.0.0.1:1/v1")]
    assert config.teachers[0].completion_price > 0


@pytest.mark.parametrize("text", [None, "teachers = ["])
def test_a_configuration_that_cannot_be_read_is_named(tmp_path, text):
    config = tmp_path / "seedbed.toml"
    if text is not None:
        config.write_text(text)
    with pytest.raises(StackError, match=r"seedbed\.toml"):
        teacher.names_no_teacher(config)
