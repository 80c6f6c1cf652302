"""Supervised fine-tuning of a causal language model: `python -m workers.recipes.sft job.json`.

A child process of its own: it reads the job and its files, writes `output_dir/artifacts`, and says what it does
as JSON lines on stdout (job.py has its fields, events.py the lines). It reads no secret and
no database. Exit status: 0 done, 2 a failure with a known kind, 1 an unexpected one (traceback on stderr).
"""

import ctypes
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path

from workers.recipes.events import Emit, make_emitter, reserve_stdout
from workers.recipes.failures import Failure, classify_error
from workers.recipes.job import Job, read_job

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    die_with_parent()
    # The fastest end is the system's own: nothing is visible before the last rename, so there is nothing to undo.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    emit = make_emitter(reserve_stdout())
    try:
        if len(arguments) != 1:
            raise Failure("invalid_job", "Give one argument: the job file.")
        run(read_job(Path(arguments[0])), emit)
    except Exception as error:
        return report_failure(error, emit)
    return 0


def run(job: Job, emit: Emit) -> None:
    """Fine-tune, emitting stage, base_model, progress, metrics, evaluation, artifact and done events."""
    configure_libraries(offline=job.base_model.kind != "hub")
    # Imported only now: torch takes seconds, a bad job should be told at once, and the libraries read the
    # environment when they are imported.
    from workers.recipes.fine_tune import fine_tune

    fine_tune(job, emit)


def report_failure(error: Exception, emit: Emit) -> int:
    """Tell the failure as an error event; the exit status."""
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
    if os.getppid() != parent:  # it died before the call above
        os._exit(1)


def configure_libraries(offline: bool) -> None:
    """No telemetry, no progress bars, no chatter; no network at all for a model that is already here."""
    os.environ |= {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "DATASETS_VERBOSITY": "error",
    }
    # Threads that wait actively take the cores from whatever else runs, and from each other.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    # TRL refuses several visible GPUs in one process.
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    warnings.filterwarnings("ignore")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
