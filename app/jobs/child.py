"""The child process of a recipe: it has its own process group, sees no secret, and ends with its worker."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
# A cancelled job must end within 5 seconds (docs/promises.md), and its child before it.
TERM_SECONDS = 2
# A traceback fits. A library that prints warnings for hours must not fill the memory of the worker.
STDERR_BYTES = 4096

# The variables that a training needs. No other one is passed on: they may hold addresses, keys and passwords.
_ALLOWED = {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "HF_HOME"}
_ALLOWED_STARTS = ("CUDA_", "NVIDIA_", "NCCL_", "HF_HUB_", "OMP_", "MKL_", "TORCH")


def environment(inherited: dict[str, str]) -> dict[str, str]:
    """Return the variables of `inherited` that the child may see, and the import path of the project."""
    allowed = {
        name: value
        for name, value in inherited.items()
        if name in _ALLOWED or (name.startswith(_ALLOWED_STARTS) and "TOKEN" not in name)
    }
    path = os.pathsep.join(part for part in (str(PROJECT), inherited.get("PYTHONPATH", "")) if part)
    return allowed | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


class Child:
    """A recipe that runs as a process, and the events that it prints.

    Args:
        job: The file with the description of the job; its folder is the working directory.
        recipe: The module that the process runs.
    """

    def __init__(self, job: Path, recipe: str = "workers.recipes.sft"):
        # Started from the calling thread: Linux sends the child its death signal when the thread that made it ends.
        self._process = subprocess.Popen(
            [sys.executable, "-m", recipe, str(job)],
            cwd=job.parent,
            env=environment(dict(os.environ)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._tail = b""
        # Threads read both pipes: a child blocks when it writes to a pipe that is full.
        self._errors = threading.Thread(target=self._read_errors, daemon=True)
        self._errors.start()
        threading.Thread(target=self._read_events, daemon=True).start()

    def _read_events(self) -> None:
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _read_errors(self) -> None:
        while chunk := self._process.stderr.read1(STDERR_BYTES):
            self._tail = (self._tail + chunk)[-STDERR_BYTES:]

    def next_event(self, seconds: float) -> dict | None:
        """Wait for the next event.

        Returns:
            The event; {} when no event came within `seconds`; None when the child has closed its output, or has ended.
        """
        # Polled before the wait: what the child printed before its end has been read by the end of the wait. The end
        # of the output proves nothing, because a process that the child started may hold it open.
        ended = self._process.poll() is not None
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            return None if ended else {}
        if line is None:
            return None
        try:
            event = json.loads(line)
        except ValueError:
            # A library of the recipe printed a line that is no event.
            return {}
        return event if isinstance(event, dict) else {}

    def wait(self) -> int:
        """Wait until the child has ended and return its exit status; -N: signal N killed it."""
        status = self._process.wait()
        # A moment for the rest of stderr; without a limit, a process of the child that holds it open would block.
        self._errors.join(timeout=1)
        return status

    @property
    def stderr_tail(self) -> str:
        """The end of the child's stderr, without NUL characters, which Postgres can't store."""
        return self._tail.decode("utf-8", "replace").replace("\0", "").strip()

    def end(self) -> None:
        """End the child and all processes of its group: SIGTERM first, then SIGKILL. May be called at any time."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(TERM_SECONDS)
        # The whole group, also after the child has ended: processes that it started may still use the GPU.
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)
