"""The process of a recipe, in two steps: a light one that checks the job, and the one that loads torch.

The first reads the job file, so that a bad job is reported at once, and sets the environment. Then it becomes the
second by exec: the libraries read the environment when they are imported, the threads' runtime when the process starts.
Exit status: 0 done, 2 a failure with a known kind, 1 an unexpected one (traceback on stderr).
"""

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from app.training_jobs.jobs import Job
from workers.recipes.events import Emit, make_emitter, reserve_stdout
from workers.recipes.failures import Failure, classify_error
from workers.recipes.job import read_job

PR_SET_PDEATHSIG = 1
# Stdout carries events alone, and telemetry would send names of private models.
QUIET_LIBRARIES = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "DO_NOT_TRACK": "1",
    "PYTHONWARNINGS": "ignore",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "DATASETS_VERBOSITY": "error",
}


def start_recipe(arguments: list[str], model: type[Job], module: str) -> int:
    """Check the job, then become `python -m module job.json`. Returns an exit status only when the job is invalid."""
    die_with_parent()
    try:
        if len(arguments) != 1:
            raise Failure("invalid_job", "Give one argument: the job file.")
        job = read_job(Path(arguments[0]), model)
    except Exception as error:
        return report_failure(error, make_emitter(reserve_stdout()))
    environment = recipe_environment(dict(os.environ), offline=job.base_model.kind != "hub")
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], environment)


def run_recipe(arguments: list[str], model: type[Job], recipe: Callable[[Job, Emit], None]) -> int:
    """Run `recipe` on the job that `start_recipe` has checked, with its events on stdout. Return the exit status."""
    # The parent's death ends this process, too: the kernel keeps the setting through exec.
    # The default action of a signal ends the process fastest. No artifact is visible before the last rename, so a
    # killed recipe leaves nothing to undo.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    emit = make_emitter(reserve_stdout())
    try:
        recipe(read_job(Path(arguments[0]), model), emit)
    except Exception as error:
        return report_failure(error, emit)
    return 0


def report_failure(error: Exception, emit: Emit) -> int:
    """Emit the failure as an error event, and return the exit status."""
    failure = classify_error(error)
    if failure is None:
        traceback.print_exc()
        failure = Failure("unexpected", f"The recipe failed ({type(error).__name__}); its log has the details.")
    elif failure is not error or error.__cause__:
        traceback.print_exc()
    emit("error", kind=failure.kind, message=failure.message)
    return 1 if failure.kind == "unexpected" else 2


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent dies (Linux; elsewhere nothing happens).

    The kernel ties this to the parent's thread: start the recipe from a thread that lives as long as the job.
    """
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # The parent died before the call above, so the kernel will send no signal.
        os._exit(1)


def recipe_environment(inherited: dict[str, str], offline: bool) -> dict[str, str]:
    """Return the environment for the libraries: without telemetry and progress bars.

    `offline`: the model is on this machine already, so the hub's client may not use the network.
    """
    # By default waiting threads spin, and take the cores from other processes and from each other.
    environment = {"OMP_WAIT_POLICY": "PASSIVE"} | inherited | QUIET_LIBRARIES
    if offline:
        environment["HF_HUB_OFFLINE"] = "1"
    # TRL refuses several visible GPUs in one process.
    environment["CUDA_VISIBLE_DEVICES"] = inherited.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    return environment
