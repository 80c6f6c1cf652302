"""The configuration the stack's processes read: the operator's, and the simulated teacher where it names none."""

import tomllib
from pathlib import Path

from app.stack.home import Home, StackError, write_private

NAME = "simulated"

# The prices are those of a small hosted model, so that a cost is there to be seen.
SIMULATED = """
# Added by `seedbed up`, because no teacher is configured.
[[teachers]]
name = "{name}"
base_url = "{url}"
model = "seedbed-simulated"
prompt_price = "0.15"
cached_price = "0.075"
completion_price = "0.60"
"""


def names_no_teacher(config: Path | None) -> bool:
    """Is the simulated teacher wanted? An empty list in the file is an answer too."""
    if config is None:
        return True
    try:
        return "teachers" not in tomllib.loads(config.read_text("utf-8"))
    except OSError as error:
        raise StackError(f"SEEDBED_CONFIG names {config}, which can't be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise StackError(f"{config} is not valid TOML: {error}") from error


def write_config(home: Home, config: Path | None, url: str) -> Path:
    """The operator's file with the simulated teacher after it."""
    path = home.path / "stack.toml"
    theirs = config.read_text("utf-8") + "\n" if config else ""
    write_private(path, theirs + SIMULATED.format(name=NAME, url=url))
    return path
